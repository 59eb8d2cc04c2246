// What somebody who reaches the nats-server sends to the actors: what no contract knows, and answers to where nobody should write.
import { connectPlain, type PlainNats } from '../cluster/nats-plain.ts'
import type { Attack } from './run-attack.ts'

const subjects = [
  'cln.query.mallory.instant',
  'cln.query_part',
  'cln.push.mallory',
  'cln.deletes.remove',
  'cln.deletes.undo',
  'cln.compaction.now',
  'cln.scrub.now',
  'cln.remote_read.mallory',
]
/** By name: text, or CBOR, which begins with a byte that says how much comes. */
const bodies: Readonly<Record<string, Uint8Array>> = {
  nothing: new Uint8Array(),
  null: Buffer.from('null'),
  '{}': Buffer.from('{}'),
  'an array': Buffer.from('[1,2,3]'),
  'a kilobyte of 0xff': Buffer.alloc(1024, 0xff),
  'CBOR: an array of 2^32': Uint8Array.of(0x9a, 0xff, 0xff, 0xff, 0xff),
  'CBOR: 10,000 arrays in each other': Buffer.alloc(10_000, 0x81),
  'CBOR: a bignum of 900 KB': Buffer.concat([
    Uint8Array.of(0xc2, 0x5a, 0, 0x0d, 0xbb, 0xa0),
    Buffer.alloc(900_000, 0xff),
  ]),
}

/** Of a message, for its headers and the first bytes of its body. */
const HEADER_BYTES = 1024
const REFUSED_MS_MAX = 3_000

function junk(name: string, bytes: Uint8Array, types: readonly string[]): Attack {
  return {
    name: `NATS: ${name}`,
    async run({ ready }) {
      return await withPlain(ready, async (nats) => {
        for (const subject of subjects)
          for (const type of types)
            nats.publish(subject, bytes, { 'Content-Type': type }, `_INBOX.attack.${type.length}`)
        await nats.flush()
        return undefined
      })
    },
  }
}

/** As large as a message may be: its number took minutes to make. */
const largest: Attack = {
  name: 'NATS: CBOR: a bignum that fills a message',
  async run({ ready }) {
    return await withPlain(ready, async (nats) => {
      const size = nats.payloadBytesMax - HEADER_BYTES
      const head = Buffer.from([0xc2, 0x5a, 0, 0, 0, 0])
      head.writeUInt32BE(size, 2)
      const fromMs = performance.now()
      const answer = await nats.request('cln.query.mallory.instant', Buffer.concat([head, Buffer.alloc(size, 0xff)]), {
        'Content-Type': 'application/cbor',
      })
      const tookMs = Math.round(performance.now() - fromMs)
      if (!Buffer.from(answer.bytes).includes('bad_data')) return 'was not refused'
      return tookMs > REFUSED_MS_MAX ? `was refused after ${tookMs} ms` : undefined
    })
  },
}

/** A question whose answer would be written into a log. */
const reflected: Attack = {
  name: 'NATS: answers that are sent into logs',
  async run({ ready }) {
    return await withPlain(ready, async (nats) => {
      const heard = nats.listen('cln.log.0.mark')
      const before = heard.length
      for (const reply of ['cln.log.0.batch', 'cln.log.0.mark', 'cln.push.quiet'])
        nats.publish('cln.query.mallory.instant', 'query=vector(1)', {}, reply)
      await nats.flush()
      await new Promise((resolve) => setTimeout(resolve, 500))
      return heard.slice(before).some(({ bytes }) => Buffer.from(bytes).includes('resultType'))
        ? 'an answer stands in a log'
        : undefined
    })
  },
}

/** Who has no password comes in nowhere. */
const stranger: Attack = {
  name: 'NATS: a stranger without a password',
  async run({ ready }) {
    try {
      await (await connectPlain(ready.nats)).close()
    } catch {
      return undefined
    }
    return ready.natsUserFile === '' ? undefined : 'came in'
  },
}

async function withPlain<T>(
  place: Parameters<typeof connectPlain>[0],
  use: (nats: PlainNats) => Promise<T>,
): Promise<T> {
  const nats = await connectPlain(place)
  try {
    return await use(nats)
  } finally {
    await nats.close()
  }
}

export const natsAttacks: readonly Attack[] = [
  ...Object.entries(bodies).map(([name, bytes]) => junk(name, bytes, ['application/json', 'application/cbor'])),
  largest,
  reflected,
  stranger,
]
