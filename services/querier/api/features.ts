// What this system can do, in the shape of Prometheus' `/api/v1/features`: categories of switches.
import { FUNCTIONS } from '../../../shared/promql/parse/functions.ts'
import { FEATURES } from '../../../shared/promql/parse/token-stream.ts'

type Switches = Readonly<Record<string, boolean>>

const operators =
  `!= !~ % * + - / < </ <= == =~ > >/ >= @ ^ and atan2 avg bottomk count count_values group max min or quantile stddev
  stdvar sum topk unless`.split(/\s+/)
const experimentalOperators = ['limit_ratio', 'limitk']
const alwaysInPromql = `at_modifier bool by duration_expr group_left group_right ignoring negative_offset offset on
  per_query_lookback_delta subqueries without`.split(/\s+/)

const all = (names: Iterable<string>, isOn: boolean) => Object.fromEntries([...names].map((name) => [name, isOn]))

export function featuresOf(enabled: ReadonlySet<string>): Readonly<Record<string, Switches>> {
  const isExperimental = enabled.has(FEATURES.functions)
  const functions = [...FUNCTIONS.values()].map((each) => [each.name, !each.isExperimental || isExperimental] as const)
  return sorted({
    api: {
      ...all(['label_values_match', 'query_stats', 'query_warnings', 'time_range_labels', 'time_range_series'], true),
      ...all(['admin', 'remote_write_receiver'], true),
      ...all(['exclude_alerts', 'lifecycle', 'otlp_write_receiver', 'search'], false),
    },
    promql: {
      ...all(alwaysInPromql, true),
      ...all(['anchored', 'smoothed'], enabled.has(FEATURES.ranges)),
      ...all(['fill', 'fill_left', 'fill_right'], enabled.has(FEATURES.fill)),
      delayed_name_removal: enabled.has('promql-delayed-name-removal'),
      per_step_stats: true,
      type_and_unit_labels: enabled.has('type-and-unit-labels'),
    },
    promql_functions: Object.fromEntries(functions),
    promql_operators: { ...all(operators, true), ...all(experimentalOperators, isExperimental) },
    tsdb: { exemplar_storage: true, isolation: false, native_histograms: true },
  })
}

function sorted(features: Readonly<Record<string, Switches>>): Readonly<Record<string, Switches>> {
  const inOrder = <T>(record: Readonly<Record<string, T>>) =>
    Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)))
  return inOrder(Object.fromEntries(Object.entries(features).map(([name, switches]) => [name, inOrder(switches)])))
}
