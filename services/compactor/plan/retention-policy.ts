// What a tenant keeps, and for how long: common settings, and a file (--policy-file) with other ones for single tenants.
//
//   default:   { keep: 400d, bytes_max: 0, downsample: false, rules: [{ selector: '{env="dev"}', keep: 14d }] }
//   tenants:   { acme: { … } }      what a tenant leaves out is as in `default`, and there as in the settings
//
// The first rule whose selector matches a series decides over it; `keep: 0` is for ever.
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import { parse } from 'yaml'
import { z } from 'zod'
import { RefusedError, textOf } from '../../../shared/base/errors.ts'
import { parseBytes, parseDuration } from '../../../shared/config/units.ts'
import type { Matcher } from '../../../shared/model/matcher.ts'
import { parseTenant } from '../../../shared/model/tenant.ts'
import { parseSelector } from '../../../shared/promql/parse/parser.ts'

export interface KeepRule {
  readonly selector: string
  readonly matchers: readonly Matcher[]
  /** Infinity: for ever. */
  readonly keepMs: number
}

export interface Policy {
  /** Infinity: for ever. For series that no rule matches. */
  readonly keepMs: number
  /** Infinity: no bound. Of all blocks of the tenant. */
  readonly bytesMax: number
  readonly downsample: boolean
  readonly rules: readonly KeepRule[]
  /** One per rule: names the rule with all before it, because those take series from it. Stands in blocks that it was applied to. */
  readonly ruleIds: readonly string[]
}

const RULES_MAX = 100
const TENANTS_MAX = 10_000
const FILE_CODE = 'err-carillon-policy-file'

const keep = z.union([z.string(), z.literal(0)])
const policyShape = z.strictObject({
  keep: keep.optional(),
  bytes_max: z.union([z.string(), z.literal(0)]).optional(),
  downsample: z.boolean().optional(),
  rules: z
    .array(z.strictObject({ selector: z.string(), keep }))
    .max(RULES_MAX)
    .optional(),
})
const fileShape = z.strictObject({
  default: policyShape.optional(),
  tenants: z.preprocess(asMap, z.map(z.string(), policyShape)).optional(),
})

/** A tenant may be called as nothing in an object can be. */
function asMap(given: unknown): unknown {
  return typeof given === 'object' && given !== null && !Array.isArray(given) ? new Map(Object.entries(given)) : given
}

export interface PolicyDefaults {
  readonly keepMs: number
  readonly keepBytesMax: number
  readonly downsample: boolean
}

export interface TenantPolicies {
  of(tenant: string): Policy
  readonly tenants: readonly string[]
  readonly others: Policy
}

/** What holds while the file may change. Another text counts once two looks have found it: whoever writes it may be half way. A fault in it
 *  changes nothing, and neither does a file that is gone or empty: samples that are removed do not come back. */
export class Policies {
  private text: string
  private seen: string
  private current: TenantPolicies
  private readonly defaults: PolicyDefaults
  private readonly path: string

  constructor(defaults: PolicyDefaults, path: string) {
    this.defaults = defaults
    this.path = path
    this.text = readPolicyFile(path)
    this.seen = this.text
    this.current = policiesFrom(defaults, this.text)
  }

  of(tenant: string): Policy {
    return this.current.of(tenant)
  }

  /** Those that have a policy of their own. */
  get tenants(): readonly string[] {
    return this.current.tenants
  }

  /** That of all others. */
  get others(): Policy {
    return this.current.others
  }

  /** True when other policies hold from now on. Throws RefusedError `err-carillon-policy-file`. */
  look(): boolean {
    const text = readPolicyFile(this.path)
    const isSettled = text === this.seen
    this.seen = text
    if (!isSettled || text === this.text) return false
    if (text.trim() === '')
      throw new RefusedError(FILE_CODE, `--policy-file ${this.path} is empty: what it said before holds on`)
    this.current = policiesFrom(this.defaults, text)
    this.text = text
    return true
  }
}

/** The text of the file, '' for none. Throws RefusedError `err-carillon-policy-file`. */
export function readPolicyFile(path: string): string {
  if (path === '') return ''
  try {
    return fs.readFileSync(path, 'utf8')
  } catch (error) {
    throw new RefusedError(FILE_CODE, `--policy-file ${path}: ${textOf(error)}`, { cause: error })
  }
}

/** The policy of each tenant. Throws RefusedError `err-carillon-policy-file` with all that is wrong with the file. */
export function policiesFrom(defaults: PolicyDefaults, fileText: string): TenantPolicies {
  const settings = policyOf(defaults, {})
  if (fileText === '') return { of: () => settings, tenants: [], others: settings }
  let given: unknown
  try {
    given = parse(fileText)
  } catch (error) {
    throw new RefusedError(FILE_CODE, `the policy file is not YAML: ${textOf(error)}`, { cause: error })
  }
  const read = fileShape.safeParse(given ?? {})
  if (!read.success) {
    const faults = read.error.issues.map(({ path, message }) => `${path.join('.') || 'the file'}: ${message}`)
    throw new RefusedError(FILE_CODE, `the policy file: ${faults.join('; ')}`)
  }
  const { tenants = new Map() } = read.data
  if (tenants.size > TENANTS_MAX)
    throw new RefusedError(FILE_CODE, `the policy file names more than ${TENANTS_MAX} tenants`)
  const common = read.data.default ?? {}
  const other = policyOf(defaults, common)
  const named = new Map(
    [...tenants].map(([tenant, own]) => [parseTenant(tenant), policyOf(defaults, { ...common, ...own })]),
  )
  return { of: (tenant) => named.get(tenant) ?? other, tenants: [...named.keys()], others: other }
}

function policyOf(defaults: PolicyDefaults, given: z.infer<typeof policyShape>): Policy {
  const rules = (given.rules ?? []).map(({ selector, keep: text }): KeepRule => {
    try {
      return { selector, matchers: parseSelector(selector), keepMs: forEver(durationOf(text)) }
    } catch (error) {
      throw new RefusedError(FILE_CODE, `the policy file: selector ${selector}: ${textOf(error)}`, { cause: error })
    }
  })
  const hash = createHash('sha256')
  const ruleIds = rules.map(({ selector, keepMs }) => {
    hash.update(`${selector}\n${keepMs}\n`)
    return hash.copy().digest('hex').slice(0, 12)
  })
  return {
    keepMs: forEver(given.keep === undefined ? defaults.keepMs : durationOf(given.keep)),
    bytesMax: forEver(given.bytes_max === undefined ? defaults.keepBytesMax : bytesOf(given.bytes_max)),
    downsample: given.downsample ?? defaults.downsample,
    rules,
    ruleIds,
  }
}

/** How long the series are kept that are kept for longest. */
export function longestKeepMs({ keepMs, rules }: Policy): number {
  return Math.max(keepMs, ...rules.map((rule) => rule.keepMs))
}

const forEver = (value: number): number => (value === 0 ? Number.POSITIVE_INFINITY : value)

function durationOf(text: string | 0): number {
  const ms = text === 0 ? 0 : parseDuration(text)
  if (ms === undefined || ms < 0)
    throw new RefusedError(FILE_CODE, `the policy file: "${text}" is not a duration such as 400d`)
  return ms
}

function bytesOf(text: string | 0): number {
  const size = text === 0 ? 0 : parseBytes(text)
  if (size === undefined) throw new RefusedError(FILE_CODE, `the policy file: "${text}" is not a size such as 100GiB`)
  return size
}
