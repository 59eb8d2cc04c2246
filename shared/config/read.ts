// Reads settings from flags, environment and the file named by --config, for several tables at once (SETTING-1 to SETTING-3).
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml'
import { textOf } from '../base/errors.ts'
import { type ConfigOf, envName, fileKey, flagName, type Setting, type SettingsTable } from './settings.ts'
import { nearest } from './units.ts'

export interface ReadResult<T extends readonly SettingsTable[]> {
  /** One frozen config per table, in the tables' order. Trust them only when `faults` is empty. */
  readonly configs: { readonly [I in keyof T]: ConfigOf<T[I]> }
  readonly faults: readonly string[]
  /** Not wrong, but probably not meant: variables that look like a misspelt setting. */
  readonly warnings: readonly string[]
}

export interface ReadOptions {
  /** Tables of other services: their keys may stand in the same file and are passed over. */
  readonly alsoKnown?: readonly SettingsTable[]
}

/** Of one setting of a file, all nested lists together. */
const WORDS_MAX = 1000

interface Given {
  readonly text: string
  readonly from: string
}

// biome-ignore lint/suspicious/noExplicitAny: tables mix types
type AnySetting = Setting<any>

/** `argv` without the program and command. `readFile` gives the text of the --config file or throws. */
export function readSettings<const T extends readonly SettingsTable[]>(
  tables: T,
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  readFile: (path: string) => string,
  options: ReadOptions = {},
): ReadResult<T> {
  const faults: string[] = []
  const known = byFlag(tables)
  const flags = readFlags(argv, known, faults)
  const environment = readEnv(env, known)
  const path = flags.get('config') ?? environment.get('config')
  const others = byFlag(options.alsoKnown ?? [])
  const file =
    path === undefined ? new Map<string, Given>() : readConfigFile(path.text, readFile, known, others, faults)
  const configs = tables.map((table) => readTable(table, [flags, environment, file], faults))
  return {
    configs: Object.freeze(configs) as unknown as ReadResult<T>['configs'],
    faults: [...new Set(faults)],
    warnings: misspeltEnv(env, known, others),
  }
}

/** All faults as one message for a person. */
export function faultsText(faults: readonly string[]): string {
  const title = faults.length === 1 ? 'one setting is wrong:' : `${faults.length} settings are wrong:`
  return [title, ...faults.map((fault) => `  ${fault}`)].join('\n')
}

function byFlag(tables: readonly SettingsTable[]): Map<string, AnySetting> {
  const known = new Map<string, AnySetting>()
  for (const table of tables) {
    for (const [key, setting] of Object.entries(table)) {
      const name = flagName(key, setting)
      const other = known.get(name)
      if (name === 'config' || name === 'help' || name.startsWith('no-'))
        throw new TypeError(`the name --${name} is taken`)
      if (
        other !== undefined &&
        (other.kind !== setting.kind || other.show(other.default) !== setting.show(setting.default))
      ) {
        throw new TypeError(`--${name} stands in two tables with different kinds or defaults`)
      }
      known.set(name, setting)
    }
  }
  return known
}

function readTable(table: SettingsTable, sources: readonly Map<string, Given>[], faults: string[]): object {
  const config: Record<string, unknown> = {}
  for (const [key, setting] of Object.entries(table)) {
    const name = flagName(key, setting)
    const given = sources.map((source) => source.get(name)).find((each) => each !== undefined)
    const value = given === undefined ? setting.default : setting.parse(given.text)
    if (value === undefined) faults.push(`${given?.from} is "${given?.text}", wants ${setting.wants}`)
    config[key] = value ?? setting.default
  }
  return Object.freeze(config)
}

function readFlags(argv: readonly string[], known: Map<string, AnySetting>, faults: string[]): Map<string, Given> {
  const given = new Map<string, Given>()
  for (let index = 0; index < argv.length; index++) {
    const argument = argv[index] ?? ''
    if (!argument.startsWith('--')) {
      faults.push(`"${argument}" is not expected here; flags start with --`)
      continue
    }
    const equals = argument.indexOf('=')
    const written = equals < 0 ? argument.slice(2) : argument.slice(2, equals)
    const isNegated = written.startsWith('no-') && known.get(written.slice(3))?.kind === 'flag'
    const name = isNegated ? written.slice(3) : written
    const kind = name === 'config' ? 'text' : known.get(name)?.kind
    let value = equals < 0 ? undefined : argument.slice(equals + 1)
    if (kind === undefined) {
      faults.push(`--${written} is unknown${suggestion(written, ['config', ...known.keys()], '--')}`)
      if (value === undefined && argv[index + 1]?.startsWith('--') === false) index++
      continue
    }
    if (kind === 'flag') value ??= isNegated ? 'false' : 'true'
    else if (value === undefined) {
      const next = argv[index + 1]
      if (next === undefined || next.startsWith('--')) {
        faults.push(`--${name} has no value, wants ${known.get(name)?.wants ?? 'the path of a file'}`)
        continue
      }
      value = next
      index++
    }
    const before = given.get(name)
    const text = kind === 'list' && before !== undefined ? `${before.text},${value}` : value
    given.set(name, { text, from: `--${name}` })
  }
  return given
}

function readEnv(
  env: Readonly<Record<string, string | undefined>>,
  known: Map<string, AnySetting>,
): Map<string, Given> {
  const given = new Map<string, Given>()
  for (const name of ['config', ...known.keys()]) {
    const variable = envName(name)
    const value = env[variable]
    if (value !== undefined && value !== '') given.set(name, { text: value, from: variable })
  }
  return given
}

function misspeltEnv(
  env: Readonly<Record<string, string | undefined>>,
  known: Map<string, AnySetting>,
  others: Map<string, AnySetting>,
): string[] {
  const names = new Set([...known.keys(), ...others.keys(), 'config'].map(envName))
  const ours = new Set(['CARILLON_ENDS_WITH', 'CARILLON_TEST_JOURNAL', 'CARILLON_CI']) // said between our own processes
  return Object.keys(env).flatMap((variable) => {
    if (!variable.startsWith('CARILLON_') || names.has(variable) || ours.has(variable)) return []
    const hint = suggestion(variable, names, '')
    return hint === '' ? [] : [`the variable ${variable} is not a setting${hint}`]
  })
}

function readConfigFile(
  path: string,
  readFile: (path: string) => string,
  known: Map<string, AnySetting>,
  others: Map<string, AnySetting>,
  faults: string[],
): Map<string, Given> {
  const given = new Map<string, Given>()
  const lines = new LineCounter()
  let document: Document
  try {
    document = parseDocument(readFile(path), { lineCounter: lines, merge: true })
  } catch (error) {
    faults.push(`cannot read the config file ${path}: ${textOf(error)}`)
    return given
  }
  for (const error of document.errors) {
    faults.push(`${path}:${lines.linePos(error.pos[0]).line}: ${error.message.split('\n')[0]}`)
  }
  if (document.errors.length > 0 || document.contents === null) return given
  if (!isMap(document.contents)) {
    faults.push(`${path}: wants lines of "key: value"`)
    return given
  }
  const keys = new Map([...known.keys(), ...others.keys()].map((name) => [fileKey(name), name]))
  for (const pair of document.contents.items) {
    const key = isScalar(pair.key) ? String(pair.key.value) : '?'
    const line = isScalar(pair.key) ? lines.linePos(pair.key.range?.[0] ?? 0).line : 0
    const name = keys.get(key)
    if (name === undefined) faults.push(`${path}:${line}: the key ${key} is unknown${suggestion(key, keys.keys(), '')}`)
    else if (known.has(name)) {
      const value = valueText(pair.value, { document, left: WORDS_MAX })
      if (value === undefined)
        faults.push(`${path}:${line}: ${key} holds no plain value, wants ${known.get(name)?.wants}`)
      else given.set(name, { text: value, from: `${path}:${line}: ${key}` })
    }
  }
  return given
}

/** The value as it was written (so that 0x10 or 1_000 is not guessed at); a sequence becomes words with commas. Aliases may name each other, or
 *  themselves: what is not done within so many words is no plain value. */
function valueText(node: unknown, budget: { readonly document: Document; left: number }): string | undefined {
  if (budget.left-- <= 0) return undefined
  const value = isAlias(node) ? node.resolve(budget.document) : node
  if (isScalar(value)) return value.value === null ? undefined : (value.source ?? String(value.value))
  if (!isSeq(value)) return undefined
  const words: string[] = []
  for (const item of value.items) {
    const word = valueText(item, budget)
    if (word === undefined) return undefined
    words.push(word)
  }
  return words.join(',')
}

function suggestion(name: string, names: Iterable<string>, dashes: string): string {
  const near = nearest(name, names)
  return near === undefined ? '' : `; did you mean ${dashes}${near}?`
}
