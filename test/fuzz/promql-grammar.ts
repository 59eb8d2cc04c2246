// Random PromQL over the series of promql-fixture.ts: mostly well typed and with an answer, one in eight broken on purpose.
import type { Random } from '../../shared/base/random.ts'
import type { FunctionSignature } from '../../shared/promql/parse/functions.ts'

/** What both sides know. */
export interface Dialect {
  readonly functions: readonly FunctionSignature[]
  readonly hasLimit: boolean
  readonly hasExtendedRanges: boolean
  readonly hasFill: boolean
  readonly hasDurationExpressions: boolean
}

const DEPTH_MAX = 3
const WRONG_SHARE = 0.045

const gauges = ['memory_bytes', 'temperature', 'queue_length']
const counters = ['requests_total', 'errors_total']
const natives = ['latency', 'latency_float', 'size_custom', 'latency_gauge', 'two_schemas']
const mixed = ['mixed']
const odd = [
  '{"http.server.duration"}',
  'cased',
  'sparse',
  'flags',
  'build_info',
  'target_info',
  'flags',
  'nothing_here',
]
const ranges = ['1m', '2m30s', '5m', '5m', '10m', '46s', '1m30s']
const labelNames = ['job', 'instance', 'code', 'path', 'le', 'Job', 'zone', 'missing']
const matchers = [
  'job="api"',
  'job!="api"',
  'job=~"a.*"',
  'job!~"web|db"',
  'instance=~"[12]"',
  'missing=""',
  '"job"="web"',
]
/** Only few series pass these. */
const rareMatchers = [
  'code="200"',
  'code=~"5.."',
  'code!=""',
  'Job="API"',
  'instance!~".+"',
  'path=~"/|/a.+"',
  '"path"="/"',
]
const numbers = ['0', '1', '2', '-1', '0.5', '0.9', '3.7', '100', '1e3', 'Inf', '-Inf', 'NaN', '0x1f', '1_000', '.5']
const binary = ['+', '-', '*', '/', '%', '^', 'atan2', '==', '!=', '>', '<', '>=', '<=']
const sets = ['and', 'or', 'unless']
const aggregations = ['sum', 'avg', 'min', 'max', 'count', 'group', 'stddev', 'stdvar']

export function queryMaker(random: Random, dialect: Dialect): () => string {
  const pick = <T>(list: readonly T[]): T => list[random.below(list.length)]!
  const chance = (share: number) => random.next() < share
  const vectorFunctions = dialect.functions.filter(({ argTypes }) => argTypes[0] === 'vector')
  const matrixFunctions = dialect.functions.filter(({ argTypes }) => argTypes.includes('matrix'))

  return () => (chance(WRONG_SHARE) ? wrong() : chance(0.92) ? vector(0) : chance(0.6) ? scalar(0) : matrix(0))

  function metric(): string {
    const kind = random.below(20)
    if (kind < 6) return pick(gauges)
    if (kind < 11) return pick(counters)
    if (kind < 15) return pick(natives)
    if (kind < 16) return pick(mixed)
    if (kind < 18)
      return chance(0.7) ? 'duration_seconds_bucket' : pick(['duration_seconds_count', 'duration_seconds_sum'])
    return pick(odd)
  }

  function selector(floatsOnly = false): string {
    const name = floatsOnly ? pick([...gauges, ...counters]) : metric()
    const count = chance(0.65) ? 0 : chance(0.9) ? 1 : 2
    const list = Array.from({ length: count }, () =>
      pick(
        name === 'requests_total' ? [...matchers, ...rareMatchers.slice(0, 3)] : chance(0.04) ? rareMatchers : matchers,
      ),
    )
    if (name.startsWith('{')) return list.length === 0 ? name : `${name.slice(0, -1)}, ${list.join(', ')}}`
    if (chance(0.05)) return `{__name__=~"${name.slice(0, 4)}.*"${list.length > 0 ? `, ${list.join(',')}` : ''}}`
    return list.length === 0 ? name : `${name}{${list.join(',')}}`
  }

  function time(): string {
    return pick(['1700001200', '1700002000.5', 'start()', 'end()', '1700003599'])
  }

  function modifiers(): string {
    if (chance(0.8)) return ''
    const offset = `offset ${chance(0.04) ? '1h' : pick(['1m', '-30s', '3m', '17s'])}`
    return pick([` ${offset}`, ` @ ${time()}`, ` @ ${time()} ${offset}`, ` ${offset} @ ${time()}`])
  }

  function range(): string {
    if (dialect.hasDurationExpressions && chance(0.06))
      return pick(['1m+30s', 'step()*4', '2*1m', 'max_of(step(), 1m)'])
    return pick(ranges)
  }

  function matrix(depth: number, floatsOnly = false): string {
    if (depth < DEPTH_MAX && chance(0.15)) {
      return `${atomOf(vector(depth + 1))}[${pick(['2m', '5m', '10m'])}:${pick(['', '30s', '1m', '17s'])}]${modifiers()}`
    }
    const extended = dialect.hasExtendedRanges && chance(0.06) ? pick([' anchored', ' smoothed']) : ''
    return `${selector(floatsOnly && chance(0.85))}[${range()}]${extended}${modifiers()}`
  }

  function vector(depth: number): string {
    if (depth >= DEPTH_MAX) return `${selector()}${modifiers()}`
    const kind = random.below(100)
    if (kind < 18) return `${selector()}${modifiers()}`
    if (kind < 45) return call(pick(matrixFunctions), depth)
    if (kind < 58) return call(pick(vectorFunctions), depth)
    if (kind < 78) return aggregation(depth)
    if (kind < 94) return operation(depth)
    if (kind < 96) return `-${atomOf(vector(depth + 1))}`
    if (kind < 97) return `(${vector(depth + 1)})`
    return chance(0.5) ? `vector(${scalar(depth + 1)})` : histogramQuantile(depth)
  }

  function histogramQuantile(depth: number): string {
    const classic = `sum by (le, job) (rate(duration_seconds_bucket[${range()}]))`
    const inner = chance(0.5) ? classic : `${pick(['rate', 'increase'])}(${pick(natives)}[${range()}])`
    return `histogram_quantile(${scalar(depth + 1)}, ${inner})`
  }

  function scalar(depth: number): string {
    if (depth >= DEPTH_MAX || chance(0.75)) return pick(numbers)
    return pick([
      () => 'time()',
      () => 'pi()',
      () => `scalar(${vector(depth + 1)})`,
      () => `${pick(numbers)} ${pick(binary.slice(0, 7))} ${pick(numbers)}`,
      () => `${pick(numbers)} > bool ${pick(numbers)}`,
      () => `-${pick(numbers)}`,
    ])()
  }

  function call({ name, argTypes, variadic }: FunctionSignature, depth: number): string {
    const optionalCount = variadic > 0 ? random.below(Math.min(variadic, 2) + 1) : variadic < 0 ? random.below(3) : 0
    const required = variadic === 0 ? argTypes : argTypes.slice(0, Math.max(0, argTypes.length - 1))
    const last = argTypes[argTypes.length - 1]
    const types = [...required, ...new Array(optionalCount).fill(last)]
    return `${name}(${types.map((type, i) => argument(name, type, i, depth)).join(', ')})`
  }

  function argument(name: string, type: string, index: number, depth: number): string {
    if (type === 'matrix') return matrix(depth + 1, !isOfHistograms(name))
    if (type === 'scalar') return name.includes('smoothing') ? pick(['0.1', '0.5', '0.9']) : scalar(depth + 1)
    if (type === 'string') return string(name, index)
    if (name === 'info' && index > 0) return pick(['{data=~".+"}', '{__name__="build_info"}', '{version="1"}', '{}'])
    if (name.startsWith('histogram_') && chance(0.9)) {
      return chance(0.5) ? pick(natives) : `rate(${pick(natives)}[${range()}])`
    }
    return vector(depth + 1)
  }

  function string(name: string, index: number): string {
    if (name === 'label_replace') {
      return [
        `"${pick(['job', 'new', 'instance', 'a b'])}"`,
        pick(['"$1"', '"x-$1"', '""', '"$n"']),
        '"job"',
        pick(['"(.*)"', '"a(?P<n>.*)"', '"none"']),
      ][index - 1]!
    }
    if (name === 'label_join') return index === 2 ? pick(['"-"', '""']) : `"${pick(labelNames)}"`
    return `"${pick(labelNames)}"`
  }

  function grouping(): string {
    if (chance(0.25)) return ''
    const names = Array.from({ length: 1 + random.below(2) }, () => pick(labelNames))
    return ` ${pick(['by', 'without'])} (${names.join(', ')})`
  }

  function aggregation(depth: number): string {
    const inner = vector(depth + 1)
    const kind = random.below(20)
    if (kind < 13) return `${pick(aggregations)}${grouping()} (${inner})`
    if (kind < 15) return `quantile${grouping()} (${scalar(depth + 1)}, ${inner})`
    if (kind < 16) return `count_values${grouping()} ("${pick(['value', 'job'])}", ${inner})`
    if (kind < 18 || !dialect.hasLimit)
      return `${pick(['topk', 'bottomk'])}${grouping()} (${chance(0.04) ? '0' : pick(['1', '2', '3', '100'])}, ${inner})`
    return kind < 19
      ? `limit_ratio${grouping()} (${pick(['0.5', '-0.5', '1', '0.2'])}, ${inner})`
      : `limitk${grouping()} (${pick(['1', '2', '100'])}, ${inner})`
  }

  function operation(depth: number): string {
    const kind = random.below(10)
    if (kind < 4) {
      const op = chance(0.6) ? pick(binary.slice(0, 7)) : pick(binary)
      const bool = isComparison(op) && chance(0.6) ? ' bool' : ''
      const [left, right] = [atomOf(vector(depth + 1)), `(${scalar(depth + 1)})`]
      return chance(0.7) ? `${left} ${op}${bool} ${right}` : `${right} ${op}${bool} ${left}`
    }
    const left = vector(depth + 1)
    // half of the time both sides have the same series, so that they find each other
    const right = chance(0.7) ? left : vector(depth + 1)
    if (kind < 6) return `${atomOf(left)} ${pick(sets)}${matching(false)} ${atomOf(right)}`
    const op = pick(binary)
    const bool = isComparison(op) && chance(0.4) ? ' bool' : ''
    return `${atomOf(left)} ${op}${bool}${matching(true)} ${atomOf(right)}`
  }

  function matching(mayGroup: boolean): string {
    if (chance(0.55)) return ''
    const on = ` ${pick(['on', 'ignoring'])} (${pick(['job', 'job, instance', 'instance', 'code', '', 'code, path'])})`
    const group =
      mayGroup && chance(0.4) ? ` ${pick(['group_left', 'group_right'])}${pick(['', ' ()', ' (zone)'])}` : ''
    const fill =
      mayGroup && dialect.hasFill && chance(0.15) ? ` ${pick(['fill(0)', 'fill_left(1)', 'fill_right(-1)'])}` : ''
    return `${on}${group}${fill}`
  }

  function wrong(): string {
    return pick([
      () => `${vector(1)} +`,
      () => `rate(${selector()})`,
      () => `${pick(aggregations)}(${matrix(3)})`,
      () => `abs(${matrix(3)})`,
      () => `nosuch(${vector(2)})`,
      () => `${selector()}[5x]`,
      () => `${selector()}[0s]`,
      () => `${selector()}{`,
      () => `{}`,
      () => `{job=~".*"}`,
      () => `${selector()} offset`,
      () => `${selector()}[5m] offset 1m [3m]`,
      () => `topk(${selector()}, ${selector()})`,
      () => `histogram_quantile(${selector()})`,
      () => `${matrix(3)} + 1`,
      () => `"text" + ${pick(numbers)}`,
      () => `${pick(numbers)} and ${pick(numbers)}`,
      () => `${pick(numbers)} > ${pick(numbers)}`,
      () => `${vector(2)} == bool`,
      () => `${selector()} + on(job) group_left(job) ${selector()}`,
      () => `count_values("${pick(['', 'a b', '0x'])}", ${selector()})`,
      () => `label_replace(${selector()}, "job", "$1", "job", "(")`,
      () => `sum by (job ${selector()}`,
      () => `${selector()} @ "x"`,
      () => `requests_total + on(job) errors_total`,
      () => `requests_total * ignoring(code, path) temperature`,
      () => `duration_seconds_bucket / on(job) duration_seconds_count`,
      () => `round(${selector()}, ${selector()})`,
      () => `scalar(1)`,
      () => `${selector()} or 1`,
      () => `sum(${selector()}) by`,
      () => `${pick(numbers)}${pick(['s', ' m', '..', ')'])}`,
      () => `metric{job="a" code="b"}`,
      () => `'unterminated`,
      () => `sort_by_label(${selector()}, 1)`,
      () => `${selector()}[${pick(['5m:', '5m:0s', ':1m', '5m:1m:1m'])}]`,
      () => `${selector()} offset 1m offset 2m`,
      () => `${selector()} bool ${selector()}`,
    ])()
  }
}

/** Functions over ranges that answer something for native histograms. */
function isOfHistograms(name: string): boolean {
  return /^(rate|increase|delta|irate|idelta|(count|sum|avg|last|first|present)_over_time|changes|resets)$/.test(name)
}

function isComparison(op: string): boolean {
  return /[=<>]/.test(op)
}

function atomOf(text: string): string {
  return /^[a-z_]+(\{[^{}]*\})?$/.test(text) ? text : `(${text})`
}
