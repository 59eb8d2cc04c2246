// `carillon delete …`: what a person deletes of one tenant, from anywhere that reaches a gateway: first looked at, then deleted, then, while there
// is time, taken back.
import { systemClock } from '../../shared/base/clock.ts'
import { hex, systemRandom } from '../../shared/base/random.ts'
import { type ConfigOf, choice, defineSettings, text } from '../../shared/config/settings.ts'
import type { DeleteEntry } from '../../shared/contracts/blocks.ts'
import { matcherText } from '../../shared/promql/parse/printer.ts'
import { SetupError } from '../launcher/setup-error.ts'
import { GatewayClient, type GatewayOptions } from './gateway-client.ts'
import { gatewayCommand } from './system.ts'
import { printed, table, timeText } from './table.ts'

const deleteSettings = defineSettings({
  tenant: text('', 'whose samples'),
  start: text('', 'from this time on (RFC 3339 or seconds); without it from the first sample'),
  end: text('', 'up to this time; without it to the last sample'),
  output: choice(['text', 'json'], 'text', 'text for people, or one JSON document'),
})

type DeleteConfig = ConfigOf<typeof deleteSettings> & Pick<GatewayOptions, 'gateway' | 'credentialsFile' | 'isGuess'>

interface Verb {
  readonly help: string
  readonly takes: (count: number) => boolean
  /** What is printed. */
  readonly run: (call: Call) => Promise<string>
}

interface Call {
  readonly client: GatewayClient
  readonly operands: readonly string[]
  readonly config: DeleteConfig
}

const verbs: Readonly<Record<string, Verb>> = {
  preview: {
    help: 'delete preview SELECTOR …     how many series and samples that would be',
    takes: (count) => count > 0,
    run: preview,
  },
  series: {
    help: 'delete series SELECTOR …      deletes them, such as \'up{job="old"}\'',
    takes: (count) => count > 0,
    run: (call) => deleted(call, 'tsdb/delete_series', asked(call)),
  },
  tenant: {
    help: 'delete tenant                 deletes all that the tenant has',
    takes: (count) => count === 0,
    run: (call) => deleted(call, 'tenant/delete', []),
  },
  list: {
    help: 'delete list                   deletions, who asked for them, until when they can be taken back',
    takes: (count) => count === 0,
    run: list,
  },
  undo: {
    help: 'delete undo ID                takes a deletion back',
    takes: (count) => count === 1,
    run: undo,
  },
}

const deleteVerbs: readonly string[] = Object.values(verbs).map(({ help }) => help)

export const deleteCommand = gatewayCommand({
  name: 'delete',
  usage: '{preview|series|tenant|list|undo} [SELECTOR …|ID] --tenant NAME [flags]',
  does: 'delete {preview,series,tenant,list,undo}: samples of a tenant, over a gateway',
  intro: `Deletes samples of one tenant, over a gateway.\n  ${deleteVerbs.join('\n  ')}`,
  settings: deleteSettings,
  takesWords: true,
  run: async ({ words: [verb = '', ...operands], config, door }) => ({
    text: await runDelete(verb, operands, { ...door, ...config }),
  }),
})

export async function runDelete(name: string, operands: readonly string[], config: DeleteConfig): Promise<string> {
  const verb = Object.hasOwn(verbs, name) ? verbs[name] : undefined
  if (!verb?.takes(operands.length)) throw new SetupError(2, `delete wants one of\n  ${deleteVerbs.join('\n  ')}`)
  if (config.tenant === '') throw new SetupError(2, 'delete wants --tenant: whose samples')
  return verb.run({ client: new GatewayClient(config), operands, config })
}

type Pairs = readonly (readonly [string, string])[]

function adminPath({ config }: Call, end: string, more: Pairs = []): string {
  return `/api/v1/admin/${end}?${new URLSearchParams([['tenant', config.tenant], ...more.map((pair) => [...pair])])}`
}

/** Selectors and times, as the gateway takes them. */
function asked({ operands, config }: Call): Pairs {
  const { start, end } = config
  const times = Object.entries({ start, end }).filter(([, time]) => time !== '')
  return [...operands.map((each) => ['match[]', each] as const), ...times]
}

async function preview(call: Call): Promise<string> {
  const path = adminPath(call, 'tsdb/delete_series/preview', asked(call))
  const found = await call.client.data<{ series: number; samples: number }>(path)
  return printed(
    call.config,
    found,
    `${found.series} series, ${found.samples} samples of tenant ${call.config.tenant}\n`,
  )
}

async function list(call: Call): Promise<string> {
  const { deletions } = await call.client.data<{ deletions: readonly DeleteEntry[] }>(adminPath(call, 'tsdb/deletions'))
  const head = ['ID', 'ASKED', 'BY', 'WHAT', 'STATE', 'UNDO UNTIL']
  return printed(call.config, deletions, `${table(head, deletions.map(rowOf)).join('\n')}\n`)
}

async function undo(call: Call): Promise<string> {
  const id = call.operands[0]!
  await call.client.bytes(adminPath(call, `tsdb/deletions/${encodeURIComponent(id)}/undo`), { method: 'POST' })
  return printed(call.config, { id }, `${id} is taken back\n`)
}

async function deleted(call: Call, end: string, what: Pairs): Promise<string> {
  const id = `${systemClock.now().toString(36)}${hex(systemRandom.bytes(8))}` // one name for all tries
  await call.client.bytes(adminPath(call, end, [...what, ['id', id]]), { method: 'POST' })
  const { tenant } = call.config
  return printed(call.config, { id }, `deleted; carillon delete undo ${id} --tenant ${tenant} takes it back\n`)
}

function rowOf({ id, kind, selectors, startMs, endMs, askedAtMs, askedBy, state, undoUntilMs }: DeleteEntry): string[] {
  const named = selectors.map((matchers) => `{${matchers.map(matcherText).join(',')}}`).join(' ')
  const times = [startMs, endMs]
    .map((ms) => (Math.abs(ms) === Number.MAX_SAFE_INTEGER ? '' : timeText(ms)))
    .join(' to ')
  const what = kind === 'tenant' ? 'all' : `${named} ${times === ' to ' ? '' : times}`.trimEnd()
  return [
    id,
    timeText(askedAtMs),
    askedBy,
    what,
    state,
    state === 'active' && undoUntilMs > systemClock.now() ? timeText(undoUntilMs) : '',
  ]
}
