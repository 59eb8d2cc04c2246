// What is asked of Carillon and of Prometheus alike. Times are fixed, and no sample lies on the edge of a range, so that Prometheus 2
// (which takes the left edge in) and 3 (which does not) answer the same.

export interface Case {
  readonly query: string
  /** Answers nothing by design. */
  readonly isEmpty?: boolean
  /** Sums broken numbers: the last digits of Prometheus 2, which does not compensate for rounding, are others. */
  readonly roundsAnew?: boolean
  /** The last digits depend on the order of series, which is nobody's promise. */
  readonly isOrdered?: boolean
}

const is = (query: string): Case => ({ query })
const isSum = (query: string): Case => ({ query, roundsAnew: true })
const isOrdered = (query: string): Case => ({ query, isOrdered: true })
const isNothing = (query: string): Case => ({ query, isEmpty: true })

/** `at`: a past time in seconds, for the modifier. */
export const cases = (at: string): readonly Case[] => [
  // selectors
  is('up'),
  is('{__name__=~"shop_.*_total",handler!~"/c.*"}'),
  is('shop_temperature_celsius{room=~"1.?|3"}'),
  is('shop_requests_total offset 7s'),
  is(`shop_requests_total @ ${at}`),
  is(`rate(shop_requests_total[6s] @ ${at} offset 2s)`),
  isNothing('shop_requests_total offset -1h'),
  is('shop_build_info'),
  // functions over ranges
  is('rate(shop_requests_total[10s])'),
  is('irate(shop_requests_total[10s])'),
  is('increase(shop_duration_seconds_count[12s])'),
  is('delta(shop_temperature_celsius{room!="3",room!="4"}[9s])'),
  is('idelta(shop_temperature_celsius[9s])'),
  is('resets(shop_requests_total[20s])'),
  is('changes(shop_temperature_celsius[20s])'),
  is('deriv(shop_requests_total{code="500"}[15s])'),
  is('predict_linear(shop_requests_total{code="200"}[15s], 60)'),
  is('count_over_time(shop_requests_total[11s])'),
  is('sum_over_time(shop_requests_total[11s])'),
  is('min_over_time(shop_temperature_celsius[11s])'),
  is('max_over_time(shop_temperature_celsius[11s])'),
  is('last_over_time(shop_temperature_celsius[11s])'),
  is('present_over_time(shop_temperature_celsius[11s])'),
  is('quantile_over_time(0.7, shop_temperature_celsius{room!="3"}[11s])'),
  is('rate(prometheus_http_requests_total[10s])'),
  is('rate(carillon_gateway_requests_total[10s])'),
  // aggregations
  is('sum by (handler) (shop_requests_total)'),
  isSum('sum without (room, floor, instance) (shop_temperature_celsius{room=~"5|6"})'),
  is('count by (job) ({__name__=~".+"})'),
  is('topk(3, shop_temperature_celsius{room!="3"})'),
  is('bottomk by (floor) (1, shop_temperature_celsius{room!="3"})'),
  is('quantile by (floor) (0.4, shop_temperature_celsius{room!="3"})'),
  is('max(shop_temperature_celsius) - min(shop_temperature_celsius)'),
  is('count_values("total", shop_requests_total{code="500"})'),
  is('group by (floor) (shop_temperature_celsius)'),
  isOrdered('stddev by (floor) (shop_temperature_celsius{room!="3",room!="4"})'),
  // histograms
  is('histogram_quantile(0.9, rate(shop_duration_seconds_bucket[10s]))'),
  isSum('histogram_quantile(0.5, sum by (le) (increase(shop_duration_seconds_bucket[10s])))'),
  isSum('histogram_quantile(0.99, sum by (le, handler) (rate(prometheus_http_request_duration_seconds_bucket[10s])))'),
  isSum('histogram_quantile(0.99, sum by (le, role) (rate(carillon_actor_handler_seconds_bucket[10s])))'),
  // joins and sets
  is('shop_requests_total * on (instance) group_left (version, note) shop_build_info'),
  isSum(
    'sum by (handler) (rate(shop_requests_total{code="500"}[10s])) / sum by (handler) (rate(shop_requests_total[10s]))',
  ),
  is('shop_requests_total{code="500"} / ignoring (code) shop_requests_total{code="200"}'),
  is('shop_temperature_celsius > 1 and shop_temperature_celsius < 16'),
  is('up == 0 or up == 1'),
  is('shop_temperature_celsius unless on (room) (shop_temperature_celsius > 0)'),
  is('shop_temperature_celsius > bool 5'),
  is('-shop_temperature_celsius ^ 2 % 7'),
  is('1 < bool 2'),
  is('shop_temperature_celsius atan2 on (room, instance) shop_temperature_celsius'),
  // the rest
  is('max_over_time(rate(shop_requests_total[5s])[8s:2s])'),
  is('sum_over_time(shop_requests_total{code="500"}[10s:1s] offset 3s)'),
  is('absent(shop_nothing{job="x"})'),
  isNothing('absent(shop_build_info)'),
  is('absent_over_time(shop_nothing[10s])'),
  is('label_replace(up, "port", "$1", "instance", ".*:(.*)")'),
  is('label_join(shop_requests_total, "both", "-", "handler", "code")'),
  is('clamp(shop_temperature_celsius, -5, 5)'),
  is('round(shop_temperature_celsius, 0.25)'),
  is('timestamp(shop_build_info)'),
  is('sort_desc(shop_temperature_celsius{room=~"5|6|7|8"})'),
  is('scalar(shop_build_info{job="shop"}) + vector(time())'),
  is('day_of_week() + hour(vector(time()))'),
  is('sqrt(abs(shop_temperature_celsius)) + ceil(shop_temperature_celsius)'),
]
