// The clients of a chaos run, over HTTP as anybody's: senders, readers and uploaders. Each says to the ledger what it knows, and nothing else.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { textOf } from '../../shared/base/errors.ts'
import type { Random } from '../../shared/base/random.ts'
import { formatLabels, labelsFrom } from '../../shared/model/labels.ts'
import { META_FILE } from '../../shared/tsdb/block/files.ts'
import { metaBytes } from '../../shared/tsdb/block/meta.ts'
import { runCarillon } from '../cluster/carillon-command.ts'
import { ask, pushBody } from '../cluster/client.ts'
import { writeBlock } from '../services/compactor/merge-ground.ts'
import { type Answer, type Excuses, type Scope, SERIES_NAMES, type Shipment } from '../sim/ledger.ts'
import { type Matrix, samplesIn } from '../sim/reader.ts'
import { bodyOf } from '../sim/senders.ts'
import { seriesOf } from '../sim/uploader.ts'
import { BACK_MS, ERROR_ID_HEADER, type Stage } from './stage.ts'

const ANSWER_MS_MAX = 60_000
const RETRY_MS = 250
/** A push that is not taken for so long is never taken. */
const PUSHED_MS_MAX = 300_000
/** Uploaded samples lie before all others, each at a time of its own. */
const UPLOADS_BACK_MS = 6 * 24 * 3_600_000
/** From where samples of senders begin to where they may end. */
const SENT_MS = 6 * 3_600_000
const UPLOAD_PAUSE_MS = 20_000
const WHOLE_CHANCE = 0.1
const NARROW_CHANCE = 0.3
const COUNT_CHANCE = 0.25

export async function sender(stage: Stage, tenant: string, number: number): Promise<void> {
  const random = stage.random(`sender ${tenant} ${number}`)
  for (let round = 0; stage.isChaos; round++) {
    const startMs = stage.startedAtMs - BACK_MS
    const at = { tenant, sender: number, round, startMs, begun: stage.moment(), hasKinds: true }
    const shipment = stage.ledger.draw(random, at)
    if (!(await pushed(stage, shipment, `${tenant}-${number}-${round}`)))
      return stage.fault(`a push of ${tenant} was not acknowledged within ${PUSHED_MS_MAX} ms`)
    stage.ledger.acknowledge(shipment, stage.moment())
    stage.count('pushes')
    await sleep(50 + random.below(400))
  }
}

async function pushed(stage: Stage, shipment: Shipment, exemplar: string): Promise<boolean> {
  const { tenant } = shipment
  const { body, protocol } = bodyOf(shipment, exemplar, true)
  const endMs = performance.now() + PUSHED_MS_MAX
  while (performance.now() < endMs) {
    const { status, text } = await pushBody(stage.url(), body, { tenant, protocol, timeoutMs: ANSWER_MS_MAX }).catch(
      (error: unknown) => ({ status: 0, text: textOf(error) }),
    )
    if (status >= 200 && status < 300) return true
    if (status >= 400 && status < 500) stage.fault(`a push of ${tenant} is refused with ${status}: ${text}`)
    stage.count('pushes sent again')
    stage.ledger.repeat(shipment)
    await sleep(RETRY_MS)
  }
  return false
}

// ---- reading ----

export async function reader(stage: Stage, tenant: string): Promise<void> {
  const random = stage.random(`reader ${tenant}`)
  while (stage.isChaos) {
    const scope = drawScope(stage, random)
    await (random.next() < COUNT_CHANCE ? countOnce(stage, tenant, scope) : readOnce(stage, tenant, scope))
    await sleep(100 + random.below(500))
  }
}

export function wholeOf(stage: Stage): Scope {
  return { startMs: stage.startedAtMs - UPLOADS_BACK_MS, endMs: stage.startedAtMs - BACK_MS + SENT_MS }
}

/** Mostly one value of a label, over all times or some. */
function drawScope(stage: Stage, random: Random): Scope {
  const whole = wholeOf(stage)
  if (random.next() < WHOLE_CHANCE) return whole
  const series = SERIES_NAMES[random.below(SERIES_NAMES.length)]!
  if (random.next() >= NARROW_CHANCE) return { ...whole, series }
  const startMs = stage.startedAtMs - BACK_MS + random.below(3_600_000)
  return { series, startMs, endMs: startMs + 60_000 + random.below(3_600_000) }
}

/** All samples, one by one, held against the ledger; false when there was no answer. */
export function readOnce(stage: Stage, tenant: string, scope: Scope): Promise<boolean> {
  const query = `{__name__=~"m|k|u"${matcherOf(scope)}}${rangeOf(scope)}`
  return readAndJudge<Matrix>(stage, { tenant, scope, query }, (answer, result, excuses) => {
    const shown = samplesIn({ fault: (text) => stage.fault(`${tenant}: ${text}`) }, result)
    for (const times of shown.values()) stage.count('samples compared', times.size)
    return stage.ledger.judge({ ...answer, shown }, excuses)
  })
}

/** How many there are, as PromQL counts them. */
function countOnce(stage: Stage, tenant: string, scope: Scope): Promise<boolean> {
  const query = `count_over_time({__name__="m"${matcherOf(scope)}}${rangeOf(scope)})`
  return readAndJudge<Counted>(stage, { tenant, scope, query }, (answer, result, excuses) => {
    const named = result.map(({ metric, value }) => {
      return [formatLabels(labelsFrom({ ...metric, __name__: 'm' })), Number(value[1])] as const
    })
    stage.count('counts compared', named.length)
    return stage.ledger.judgeCounts(answer, new Map(named), excuses)
  })
}

const matcherOf = ({ series }: Scope) => (series === undefined ? '' : `,series="${series}"`)
/** What lies at the beginning of a range is left out. */
const rangeOf = ({ startMs, endMs }: Scope) => `[${endMs - startMs + 1}ms]`

interface Counted {
  readonly metric: Record<string, string>
  readonly value: readonly [number, string]
}

interface Asked {
  readonly tenant: string
  readonly scope: Scope
  readonly query: string
}

/** One strong read. */
async function readAndJudge<Row>(
  stage: Stage,
  asked: Asked,
  faultsIn: (answer: Omit<Answer, 'shown'>, result: readonly Row[], excuses: Excuses) => readonly string[],
): Promise<boolean> {
  const { harm } = stage
  const { tenant, scope } = asked
  const begun = stage.moment()
  const body = await strongly<Row>(stage, asked)
  if (body === undefined) return false
  const ended = stage.moment()
  const warnings: readonly string[] = body.warnings ?? []
  stage.count('reads')
  if (warnings.length > 0) stage.count('reads with warnings')
  const before = stage.counts['violations met']
  const isHarmed = harm.isThere ? harm.isHarmed.bind(harm) : undefined
  for (const text of faultsIn({ tenant, begun, ended, warnings, scope }, body.data.result, { isHarmed }))
    stage.fault(`a strong read of ${tenant} ${text}`)
  if (warnings.length > 0 && !harm.isThere) stage.fault(`a strong read of ${tenant} warns of no cause: ${warnings[0]}`)
  if (stage.counts['violations met'] !== before) stage.keep('answer', { ...asked, begun, ended, body })
  return true
}

interface Body<Row> {
  readonly warnings?: readonly string[]
  readonly data: { readonly result: readonly Row[] }
}

async function strongly<Row>(stage: Stage, { tenant, scope, query }: Asked): Promise<Body<Row> | undefined> {
  const parameters = { query, time: String(scope.endMs / 1_000) }
  try {
    const options = { tenant, consistency: 'strong', timeoutMs: ANSWER_MS_MAX }
    const { status, headers, body } = await ask(stage.url(), '/api/v1/query', parameters, options)
    if (status === 200) return body
    if (status >= 400 && status < 500) stage.fault(`a read of ${tenant} is refused with ${status}: ${body.error}`)
    stage.count(`reads answered ${headers.get(ERROR_ID_HEADER) ?? status}`)
    stage.trace(`a read of ${tenant} is answered ${status}: ${body.error}`)
  } catch (error) {
    stage.count('reads without an answer')
    stage.trace(`a read of ${tenant} is not answered: ${textOf(error)}`)
  }
  stage.count('reads that failed')
  return undefined
}

// ---- uploading ----

export async function uploader(stage: Stage, tenants: readonly string[]): Promise<void> {
  const random = stage.random('uploader')
  for (let number = 0; stage.isChaos; number++) {
    const tenant = tenants[random.below(tenants.length)]!
    const startMs = stage.startedAtMs - UPLOADS_BACK_MS
    const shipment = stage.ledger.drawUpload(random, { tenant, startMs, begun: stage.moment() })
    const folder = join(stage.options.folder, `upload-${number}`)
    await writeFolder(folder, shipment)
    stage.ledger.repeat(shipment) // the command sends again what was not answered
    const args = ['blocks', 'upload', '--tenant', tenant, '--gateway', stage.url(), folder]
    const { code, errors } = await runCarillon(args)
    stage.trace(`an upload to ${tenant} ended with ${code}${code === 0 ? '' : `: ${errors.slice(-300)}`}`)
    if (code === 0) stage.ledger.acknowledge(shipment, stage.moment())
    stage.count(code === 0 ? 'uploads' : 'uploads that failed')
    rmSync(folder, { recursive: true, force: true })
    await stage.pause(random.below(UPLOAD_PAUSE_MS))
  }
}

async function writeFolder(folder: string, shipment: Shipment): Promise<void> {
  const { meta, files } = await writeBlock(seriesOf(shipment))
  for (const [name, bytes] of [...files, [META_FILE, metaBytes(meta)] as const]) {
    const file = join(folder, meta.ulid, name)
    mkdirSync(join(file, '..'), { recursive: true })
    writeFileSync(file, bytes)
  }
}
