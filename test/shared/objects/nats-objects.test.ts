// Objects on JetStream pass the suite of every object store, against a real server.
import { connect } from '@nats-io/transport-node'
import { describe } from 'vitest'
import { systemClock } from '../../../shared/base/clock.ts'
import { natsObjects } from '../../../shared/objects/nats-objects.ts'
import { findNatsServer, startNatsServer } from '../../cluster/nats-server.ts'
import { call, objectsSuite } from '../../suites/objects-suite.ts'
import { ofObject } from './nats-messages.ts'

const found = findNatsServer()
if ('reason' in found) console.warn(`skipped: objects on NATS ${found.reason}`)

describe.skipIf('reason' in found)('on a real nats-server', () => {
  objectsSuite('objects on JetStream', async () => {
    const server = await startNatsServer()
    const open = () => natsObjects({ servers: server.url, name: 'test', clock: systemClock })
    const first = await open()
    await first.setUp({ replicas: 1, bytesMax: 0 }, call)
    const nc = await connect({ servers: server.url })
    return {
      connect: open,
      async damage(name) {
        const { stream, seqs } = await ofObject(nc, name)
        const reply = await nc.request(`$JS.API.STREAM.MSG.DELETE.${stream}`, JSON.stringify({ seq: seqs[1] }))
        if (!reply.json<{ success?: boolean }>().success) throw new Error(reply.string())
      },
      async close() {
        await nc.close()
        await first.close()
        await server.stop()
      },
    }
  })
})
