// A reader asks strongly, all the time, for all that its tenant has, and holds each answer against the ledger.
import { UnavailableError } from '../../shared/base/errors.ts'
import { ask } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { query } from '../../shared/contracts/query.ts'
import { formatLabels, labelsFrom } from '../../shared/model/labels.ts'
import type { Ledger, Send } from './ledger.ts'
import { PROGRESS_MS_MAX, type Scene, TENANTS } from './scene.ts'

const TIMEOUT_MS = 2_500
const QUERY = '{__name__=~"m|k|u"}[5h]'
const AHEAD_MS = 600_000
const PAUSE_MS = 50

export interface Matrix {
  readonly metric: Record<string, string>
  readonly values?: readonly (readonly [number, string])[]
  readonly histograms?: readonly (readonly [number, { readonly sum: string }])[]
}
interface Body {
  readonly status: string
  readonly error?: string
  readonly warnings?: readonly string[]
  readonly data: { readonly result: readonly Matrix[] }
}
/** By series, by time. */
export type Samples = Map<string, Map<number, string>>

export async function reader(scene: Scene, ledger: Ledger): Promise<void> {
  const bus = scene.hub.connect('reader')
  const chance = scene.plan.random('reader')
  while (scene.isChaos()) {
    await readOnce(scene, ledger, { bus, tenant: TENANTS[chance.below(TENANTS.length)]! })
    await scene.sleep(PAUSE_MS + chance.below(PAUSE_MS))
  }
}

/** One strong answer held against the ledger; undefined when there was none. */
export async function readOnce(
  scene: Scene,
  ledger: Ledger,
  { bus, tenant }: { bus: Bus; tenant: string },
): Promise<Samples | undefined> {
  const begun = scene.moment()
  const answer = await strongly(scene, bus, tenant, QUERY)
  if (typeof answer === 'string') {
    scene.count('refused reads')
    scene.count(`refused ${answer}`)
    return undefined
  }
  scene.count('reads')
  const ended = scene.moment()
  const { shown, warnings } = answer
  const unharmed = scene.logs.hasDamage ? scene.logs.unharmed() : undefined
  const isHarmed = unharmed && (({ kind, value }: Send) => kind !== 'float' || !unharmed.has(value))
  const isUntold = scene.logs.isUntold.bind(scene.logs)
  for (const text of ledger.judge({ tenant, begun, ended, shown, warnings }, { isHarmed, isUntold }))
    scene.fault(`strong read of ${begun.toFixed(0)} ms ${text}`)
  if (warnings.length > 0 && unharmed === undefined) scene.fault(`a strong read warns of no cause: ${warnings[0]}`)
  return shown
}

/** When all is well again each tenant must be answered. */
export async function readAtLast(
  scene: Scene,
  ledger: Ledger,
  { bus, tenant }: { bus: Bus; tenant: string },
): Promise<Samples> {
  const untilMs = scene.clock.monotonic() + PROGRESS_MS_MAX
  while (scene.clock.monotonic() < untilMs) {
    const shown = await readOnce(scene, ledger, { bus, tenant })
    if (shown !== undefined) return shown
    await scene.sleep(200)
  }
  const refused = Object.keys(scene.counts).filter((name) => name.startsWith('refused '))
  scene.fault(`tenant ${tenant} cannot be read when all is well; so far: ${refused.join(', ')}`)
  return new Map()
}

/** The samples of an answer, or the code of why there is none. */
export async function strongly(
  scene: Scene,
  bus: Bus,
  tenant: string,
  text: string,
): Promise<{ shown: Samples; warnings: readonly string[] } | string> {
  const time = String((scene.clock.startMs + AHEAD_MS) / 1000)
  const params = { query: text, time, read_consistency: 'strong' }
  let body: Body
  try {
    const bytes = await ask(bus, query, { tenant, kind: 'instant' }, params as never, { timeoutMs: TIMEOUT_MS })
    body = JSON.parse(Buffer.from(bytes as Uint8Array).toString()) as Body
  } catch (error) {
    if (error instanceof UnavailableError) return error.code
    throw error
  }
  if (body.status !== 'success') return /\((err-[a-z-]+)\)/.exec(body.error ?? '')?.[1] ?? String(body.error)
  return { shown: samplesIn(scene, body.data.result), warnings: body.warnings ?? [] }
}

export function samplesIn(scene: Pick<Scene, 'fault'>, result: readonly Matrix[]): Samples {
  const all: Samples = new Map()
  for (const { metric, values = [], histograms = [] } of result) {
    const series = formatLabels(labelsFrom(metric))
    if (all.has(series)) scene.fault(`an answer has series ${series} twice`)
    const times = new Map<number, string>()
    all.set(series, times)
    const rows = [...values, ...histograms.map(([at, { sum }]) => [at, `histogram ${Number(sum)}`] as const)]
    for (const [at, value] of rows) {
      const time = Math.round(at * 1000)
      if (times.has(time)) scene.fault(`an answer has ${series} @ ${time} twice`)
      times.set(time, value.startsWith('histogram') || value === 'NaN' ? value : String(Number(value)))
    }
  }
  return all
}
