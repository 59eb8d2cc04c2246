// One table per service says every setting: name, kind, default, why. The same table reads flags, environment and
// file, prints the help and makes the documentation.
//
// The key `batchBytesMax` is the flag --batch-bytes-max, the variable CARILLON_BATCH_BYTES_MAX and the file key
// batch_bytes_max. `Ms` at the end of a duration's key is dropped outside: `lingerMs` is --linger.
//
// Invariants
//   SETTING-1  A flag beats the environment, which beats the file, which beats the default.
//   SETTING-2  All faults are told at once; a config is given only when there are none.
//   SETTING-3  A config is frozen.
import { parseBytes, parseDuration, parseNumber, showBytes, showDuration } from './units.ts'

export type SettingKind = 'duration' | 'bytes' | 'flag' | 'integer' | 'number' | 'text' | 'choice' | 'list'

export interface Setting<T> {
  readonly kind: SettingKind
  readonly default: T
  readonly doc: string
  /** What a value must look like, in words: the end of "wants …". */
  readonly wants: string
  /** The name outside, where it is not made from the key. */
  readonly name: string | undefined
  /** The value that `text` says, or undefined when it says none. */
  readonly parse: (text: string) => T | undefined
  readonly show: (value: T) => string
}

export interface Naming {
  /** The flag's name without dashes, where the key is not it: `dataDir` with `{ name: 'data' }` is --data. */
  readonly name?: string
}

// biome-ignore lint/suspicious/noExplicitAny: a table holds settings of every type; ConfigOf gives each its own back
export type SettingsTable = Readonly<Record<string, Setting<any>>>

export type ConfigOf<T extends SettingsTable> = {
  readonly [K in keyof T]: T[K] extends Setting<infer V> ? V : never
}

export function defineSettings<T extends SettingsTable>(table: T): Readonly<T> {
  return Object.freeze(table)
}

/** The config that a table gives when nobody says anything; `changes` on top, for tests and simulation. */
export function defaultsOf<T extends SettingsTable>(table: T, changes: Partial<ConfigOf<T>> = {}): ConfigOf<T> {
  const config: Record<string, unknown> = {}
  for (const [key, setting] of Object.entries(table)) config[key] = setting.default
  return Object.freeze({ ...config, ...changes }) as ConfigOf<T>
}

/** The same settings with other defaults. */
export function withDefaults<T extends SettingsTable>(table: T, changes: Partial<ConfigOf<T>>): T {
  const changed = Object.entries(table).map(([key, setting]) => {
    return [key, key in changes ? Object.freeze({ ...setting, default: changes[key] }) : setting]
  })
  return Object.freeze(Object.fromEntries(changed)) as T
}

interface Range<T> {
  readonly min?: T
  readonly max?: T
}

/** A span of time, `5ms` or `1m30s` outside, milliseconds inside. The key ends in `Ms`. */
export function duration(initial: string, doc: string, options: Naming & Range<string> = {}): Setting<number> {
  const min = wellFormed(parseDuration(options.min ?? '0'), doc)
  const max = options.max === undefined ? Number.POSITIVE_INFINITY : wellFormed(parseDuration(options.max), doc)
  return checked({
    kind: 'duration',
    default: wellFormed(parseDuration(initial), doc),
    doc,
    wants: `a duration such as 5ms, 1m30s or 1y${rangeText(options)}`,
    name: options.name,
    parse: (text) => within(parseDuration(text), min, max),
    show: showDuration,
  })
}

/** A size, `256KiB` or `8MB` outside, bytes inside. */
export function bytes(initial: string, doc: string, options: Naming & Range<string> = {}): Setting<number> {
  const min = wellFormed(parseBytes(options.min ?? '0'), doc)
  const max = options.max === undefined ? Number.POSITIVE_INFINITY : wellFormed(parseBytes(options.max), doc)
  return checked({
    kind: 'bytes',
    default: wellFormed(parseBytes(initial), doc),
    doc,
    wants: `a size such as 256KiB or 8MB${rangeText(options)}`,
    name: options.name,
    parse: (text) => within(parseBytes(text), min, max),
    show: showBytes,
  })
}

/** Yes or no: `--x`, `--no-x`, `--x=false`. */
export function flag(initial: boolean, doc: string, options: Naming = {}): Setting<boolean> {
  return checked({
    kind: 'flag',
    default: initial,
    doc,
    wants: 'true or false',
    name: options.name,
    parse: (text) => (/^(true|yes|on|1)$/i.test(text) ? true : /^(false|no|off|0)$/i.test(text) ? false : undefined),
    show: String,
  })
}

export function integer(initial: number, doc: string, options: Naming & Range<number> = {}): Setting<number> {
  const min = options.min ?? Number.MIN_SAFE_INTEGER
  const max = options.max ?? Number.MAX_SAFE_INTEGER
  return checked({
    kind: 'integer',
    default: initial,
    doc,
    wants: `a whole number${rangeText(options)}`,
    name: options.name,
    parse: (text) => {
      const value = parseNumber(text)
      return value === undefined || !Number.isSafeInteger(value) ? undefined : within(value, min, max)
    },
    show: String,
  })
}

export function number(initial: number, doc: string, options: Naming & Range<number> = {}): Setting<number> {
  const min = options.min ?? Number.NEGATIVE_INFINITY
  const max = options.max ?? Number.POSITIVE_INFINITY
  return checked({
    kind: 'number',
    default: initial,
    doc,
    wants: `a number${rangeText(options)}`,
    name: options.name,
    parse: (text) => within(parseNumber(text), min, max),
    show: String,
  })
}

interface Shape {
  readonly wants?: string
  readonly isSound?: (given: string) => boolean
}

/** Any text, or such as `isSound` takes; `''` means "not given". */
export function text(initial: string, doc: string, options: Naming & Shape = {}): Setting<string> {
  return checked({
    kind: 'text',
    default: initial,
    doc,
    wants: options.wants ?? 'text',
    name: options.name,
    parse: (given) => (given === '' || (options.isSound?.(given) ?? true) ? given : undefined),
    show: (value) => value,
  })
}

export function choice<const T extends string>(
  values: readonly T[],
  initial: NoInfer<T>,
  doc: string,
  options: Naming = {},
): Setting<T> {
  return checked({
    kind: 'choice',
    default: initial,
    doc,
    wants: `one of ${values.join(', ')}`,
    name: options.name,
    parse: (given) => values.find((value) => value === given),
    show: (value) => value,
  })
}

/** Words, separated by commas or by giving the flag again; any, or such as `isSound` takes. */
export function list(
  initial: readonly string[],
  doc: string,
  { name, wants = 'words separated by commas', isSound = () => true }: Naming & Shape = {},
): Setting<readonly string[]> {
  return checked({
    kind: 'list',
    default: Object.freeze([...initial]),
    doc,
    wants,
    name,
    parse(given) {
      const words = given.split(',').flatMap((word) => word.trim() || [])
      return words.every(isSound) ? Object.freeze(words) : undefined
    },
    show: (value) => value.join(','),
  })
}

/** `batchBytesMax` → `batch-bytes-max`, `lingerMs` → `linger`. */
export function flagName(key: string, setting: Pick<Setting<unknown>, 'kind' | 'name'>): string {
  if (setting.name !== undefined) return setting.name
  const outside = setting.kind === 'duration' ? key.replace(/Ms$/, '') : key
  return outside.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
}

/** `batch-bytes-max` → `CARILLON_BATCH_BYTES_MAX`. */
export function envName(flagOf: string): string {
  return `CARILLON_${flagOf.toUpperCase().replaceAll('-', '_')}`
}

/** `batch-bytes-max` → `batch_bytes_max`. */
export function fileKey(flagOf: string): string {
  return flagOf.replaceAll('-', '_')
}

/** The flags that make another process read the same config from `table`; defaults are left out. */
export function toFlags<T extends SettingsTable>(table: T, config: ConfigOf<T>): string[] {
  return Object.entries(table).flatMap(([key, setting]) => {
    const shown = setting.show(config[key as keyof T])
    return shown === setting.show(setting.default) ? [] : [`--${flagName(key, setting)}=${shown}`]
  })
}

function checked<T>(setting: Setting<T>): Setting<T> {
  if (setting.parse(setting.show(setting.default)) === undefined) {
    throw new TypeError(`the default ${setting.show(setting.default)} of "${setting.doc}" is not ${setting.wants}`)
  }
  return Object.freeze(setting)
}

function wellFormed(value: number | undefined, doc: string): number {
  if (value === undefined) throw new TypeError(`malformed default or bound in the setting "${doc}"`)
  return value
}

function within(value: number | undefined, min: number, max: number): number | undefined {
  return value === undefined || value < min || value > max ? undefined : value
}

function rangeText({ min, max }: Range<number | string>): string {
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`
  if (min !== undefined) return `, at least ${min}`
  return max === undefined ? '' : `, at most ${max}`
}
