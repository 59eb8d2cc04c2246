// `carillon delete …`: what a person deletes of one tenant, from anywhere that reaches a gateway: first looked at, then deleted, then, while there
// is time, taken back.
import { systemClock } from '../../shared/base/clock.ts'
import { hex, systemRandom } from '../../shared/base/random.ts'
import { type ConfigOf, choice, defineSettings, text } from '../../shared/config/settings.ts'
import type { DeleteEntry } from '../../shared/contracts/blocks.ts'
import { matcherText } from '../../shared/promql/parse/printer.ts'
import { GatewayClient } from './gateway-client.ts'
import { table } from './ring-commands.ts'
import { SetupError } from './setup-error.ts'

export const deleteSettings = defineSettings({
  gateway: text('http://127.0.0.1:9009', 'address of a gateway'),
  tenant: text('', 'whose samples'),
  start: text('', 'from this time on (RFC 3339 or seconds); without it from the first sample'),
  end: text('', 'up to this time; without it to the last sample'),
  credentialsFile: text(
    '',
    'file with "user:password" or a token with the right admin, where the gateway asks for one',
  ),
  output: choice(['text', 'json'], 'text', 'text for people, or one JSON document'),
})

type DeleteConfig = ConfigOf<typeof deleteSettings>

export const deleteVerbs: Readonly<Record<string, string>> = {
  preview: 'delete preview SELECTOR …     how many series and samples that would be',
  series: 'delete series SELECTOR …      deletes them, such as \'up{job="old"}\'',
  tenant: 'delete tenant                 deletes all that the tenant has',
  list: 'delete list                   deletions, who asked for them, until when they can be taken back',
  undo: 'delete undo ID                takes a deletion back',
}

export async function runDelete(verb: string, operands: readonly string[], config: DeleteConfig): Promise<string> {
  const counts: Readonly<Record<string, boolean>> = {
    ...{ preview: operands.length > 0, series: operands.length > 0 },
    ...{ tenant: operands.length === 0, list: operands.length === 0, undo: operands.length === 1 },
  }
  if (counts[verb] !== true)
    throw new SetupError(2, `delete wants one of\n  ${Object.values(deleteVerbs).join('\n  ')}`)
  if (config.tenant === '') throw new SetupError(2, 'delete wants --tenant: whose samples')
  const client = new GatewayClient(config)
  const shown = (json: unknown, forPeople: string) =>
    config.output === 'json' ? `${JSON.stringify(json)}\n` : forPeople
  const path = (end: string, more: readonly (readonly [string, string])[] = []) =>
    `/api/v1/admin/${end}?${new URLSearchParams([['tenant', config.tenant], ...more.map((pair) => [...pair])])}`
  const selected = operands.map((each) => ['match[]', each] as const)
  const times = (['start', 'end'] as const).flatMap((name) =>
    config[name] === '' ? [] : [[name, config[name]] as const],
  )
  if (verb === 'preview') {
    const found = await client.data<{ series: number; samples: number }>(
      path('tsdb/delete_series/preview', [...selected, ...times]),
    )
    return shown(found, `${found.series} series, ${found.samples} samples of tenant ${config.tenant}\n`)
  }
  if (verb === 'list') {
    const { deletions } = await client.data<{ deletions: readonly DeleteEntry[] }>(path('tsdb/deletions'))
    const head = ['ID', 'ASKED', 'BY', 'WHAT', 'STATE', 'UNDO UNTIL']
    return shown(deletions, `${table(head, deletions.map(rowOf)).join('\n')}\n`)
  }
  if (verb === 'undo') {
    const id = operands[0]!
    await client.bytes(path(`tsdb/deletions/${encodeURIComponent(id)}/undo`), { method: 'POST' })
    return shown({ id }, `${id} is taken back\n`)
  }
  const id = `${systemClock.now().toString(36)}${hex(systemRandom.bytes(8))}` // one name for all tries
  const what =
    verb === 'tenant'
      ? path('tenant/delete', [['id', id]])
      : path('tsdb/delete_series', [...selected, ...times, ['id', id]])
  await client.bytes(what, { method: 'POST' })
  return shown({ id }, `deleted; carillon delete undo ${id} --tenant ${config.tenant} takes it back\n`)
}

function rowOf({ id, kind, selectors, startMs, endMs, askedAtMs, askedBy, state, undoUntilMs }: DeleteEntry): string[] {
  const named = selectors.map((matchers) => `{${matchers.map(matcherText).join(',')}}`).join(' ')
  const times = [startMs, endMs].map((ms) => (Math.abs(ms) === Number.MAX_SAFE_INTEGER ? '' : timeOf(ms))).join(' to ')
  const what = kind === 'tenant' ? 'all' : `${named} ${times === ' to ' ? '' : times}`.trimEnd()
  return [
    id,
    timeOf(askedAtMs),
    askedBy,
    what,
    state,
    state === 'active' && undoUntilMs > systemClock.now() ? timeOf(undoUntilMs) : '',
  ]
}

const timeOf = (ms: number): string => (Number.isNaN(new Date(ms).getTime()) ? String(ms) : new Date(ms).toISOString())
