// A client that deletes: series by matcher, with a time range or without, and now and then a whole tenant; and takes some of it back.
import { setTimeout as sleep } from 'node:timers/promises'
import { textOf } from '../../shared/base/errors.ts'
import type { Random } from '../../shared/base/random.ts'
import { ask } from '../cluster/client.ts'
import type { Deletion, Times } from '../sim/deletion.ts'
import { SERIES_NAMES } from '../sim/ledger.ts'
import { BACK_MS, ERROR_ID_HEADER, type Stage } from './stage.ts'

const ANSWER_MS_MAX = 60_000
const ANSWERED_MS_MAX = 300_000
const PAUSE_MS = 8_000
const TENANT_CHANCE = 0.12
const RANGE_CHANCE = 0.4
const UNDO_CHANCE = 0.35
const UNDO_OVER = 'err-carillon-undo-over'

export async function deleter(stage: Stage, tenants: readonly string[]): Promise<void> {
  const random = stage.random('deleter')
  for (let number = 0; stage.isChaos; number++) {
    await stage.pause(1_000 + random.below(PAUSE_MS))
    if (!stage.isChaos) return
    const tenant = tenants[random.below(tenants.length)]!
    const isTenant = random.next() < TENANT_CHANCE
    const series = isTenant ? undefined : SERIES_NAMES[random.below(SERIES_NAMES.length)]!
    const times = isTenant || random.next() >= RANGE_CHANCE ? undefined : drawTimes(stage, random)
    const of = { id: `d${number}`, tenant, series, ...(times && { times }) }
    const deletion = stage.ledger.delete({ ...of, asked: stage.moment() })
    stage.trace(`deletion asked for: ${deletion.describe()}`)
    const outcome = await again(stage, removal(deletion, times))
    if (outcome !== 'done') {
      stage.fault(`deletion ${deletion.describe()} is refused: ${outcome}`)
      continue
    }
    deletion.answer(stage.moment())
    stage.count(isTenant ? 'tenants deleted' : 'deletions')
    if (random.next() < UNDO_CHANCE) await takeBack(stage, deletion, random)
    stage.trace(`deletion is answered: ${deletion.describe()}`)
  }
}

/** What was sent by now lies in it, or some of it. */
function drawTimes(stage: Stage, random: Random): Times {
  const sinceMs = Date.now() - stage.startedAtMs
  const startMs = stage.startedAtMs - BACK_MS + random.below(5 * sinceMs + 1)
  return { startMs, endMs: startMs + random.below(5 * sinceMs + 1) }
}

async function takeBack(stage: Stage, deletion: Deletion, random: Random): Promise<void> {
  await sleep(random.below(9_000))
  deletion.askUndo(stage.moment())
  const outcome = await again(stage, {
    path: `/api/v1/admin/tsdb/deletions/${deletion.id}/undo`,
    parameters: { tenant: deletion.tenant },
  })
  const isUndone = outcome === 'done'
  if (!isUndone && outcome !== UNDO_OVER) stage.fault(`taking back ${deletion.describe()} is refused: ${outcome}`)
  deletion.answerUndo(stage.moment(), isUndone)
  stage.count(isUndone ? 'deletions taken back' : 'deletions too late to be taken back')
}

interface Order {
  readonly path: string
  readonly parameters: Readonly<Record<string, string>>
}

function removal({ id, tenant, series }: Deletion, times: Times | undefined): Order {
  if (series === undefined) return { path: '/api/v1/admin/tenant/delete', parameters: { tenant, id } }
  const range = times && { start: String(times.startMs / 1_000), end: String(times.endMs / 1_000) }
  const parameters = { tenant, id, 'match[]': `{series="${series}"}`, ...range }
  return { path: '/api/v1/admin/tsdb/delete_series', parameters }
}

/** `done`, or the code of a refusal. What is not answered is asked again. */
async function again(stage: Stage, { path, parameters }: Order): Promise<string> {
  const endMs = performance.now() + ANSWERED_MS_MAX
  let last = ''
  while (performance.now() < endMs) {
    const { status, text, code } = await orderOnce(stage, path, parameters)
    if (status === 204) return 'done'
    last = code ?? text
    stage.trace(`${path} of ${parameters['id'] ?? ''} is answered ${status}: ${text.slice(0, 300)}`)
    if (status >= 400 && status < 500 && status !== 429) return last
    stage.count('orders to delete given again')
    await sleep(300)
  }
  return `no answer within ${ANSWERED_MS_MAX} ms, the last was ${last}`
}

async function orderOnce(
  stage: Stage,
  path: string,
  parameters: Readonly<Record<string, string>>,
): Promise<{ status: number; text: string; code: string | null }> {
  try {
    const response = await fetch(`${stage.url()}${path}`, {
      method: 'POST',
      body: new URLSearchParams(parameters),
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    })
    return { status: response.status, text: await response.text(), code: response.headers.get(ERROR_ID_HEADER) }
  } catch (error) {
    return { status: 0, text: textOf(error), code: null }
  }
}

/** Of each deletion of a tenant, where it stands. */
export async function deletionsOf(stage: Stage, tenant: string): Promise<{ id: string; state: string }[]> {
  const { status, body } = await ask(
    stage.url(),
    '/api/v1/admin/tsdb/deletions',
    { tenant },
    { timeoutMs: ANSWER_MS_MAX },
  )
  if (status !== 200) throw new Error(`deletions of ${tenant}: ${status} ${JSON.stringify(body)}`)
  return body.data.deletions
}
