// What Prometheus' HTTP API refuses is refused with its texts. Each line was answered so by Prometheus 3 (main) on a loopback port.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { QueryKind, QueryParams } from '../../../shared/contracts/query.ts'
import { type Harness, startQuerier } from './harness.ts'
import { fixedMembership, memoryHub, type StubIngester, stubIngester } from './stub-ingester.ts'

const ATOI = 'strconv.Atoi: parsing'
const NO_TIME = 'to a valid timestamp'
const STEP = 'zero or negative query resolution step widths are not accepted. Try a positive integer'
const POINTS =
  'exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)'
const END_INSIDE = 'parse error: unexpected end of input inside braces'
const NON_EMPTY = 'match[] must contain at least one non-empty matcher'

const refused: readonly (readonly [QueryKind, QueryParams, string])[] = [
  ['instant', {}, 'invalid parameter "query": unknown position: parse error: no expression found in input'],
  ['instant', { query: 'up{' }, `invalid parameter "query": 1:4: ${END_INSIDE}`],
  ['instant', { query: '1:5' }, 'invalid parameter "query": 1:2: parse error: unexpected metric identifier ":5"'],
  ['instant', { query: 'sum(up' }, 'invalid parameter "query": 1:7: parse error: unclosed left parenthesis'],
  [
    'instant',
    { query: 'rate(foo)' },
    'invalid parameter "query": 1:6: parse error: expected type range vector in call to function "rate", got instant vector',
  ],
  [
    'instant',
    { query: '1', time: 'x' },
    `invalid parameter "time": invalid time value for 'time': cannot parse "x" ${NO_TIME}`,
  ],
  [
    'instant',
    { query: '1', time: '_1' },
    `invalid parameter "time": invalid time value for 'time': cannot parse "_1" ${NO_TIME}`,
  ],
  [
    'instant',
    { query: '1', time: '1e' },
    `invalid parameter "time": invalid time value for 'time': cannot parse "1e" ${NO_TIME}`,
  ],
  [
    'instant',
    { query: '1', time: '1e400' },
    `invalid parameter "time": invalid time value for 'time': cannot parse "1e400" ${NO_TIME}`,
  ],
  [
    'instant',
    { query: '1', time: ' 5' },
    `invalid parameter "time": invalid time value for 'time': cannot parse " 5" ${NO_TIME}`,
  ],
  [
    'instant',
    { query: '1', time: '2023-02-30T00:00:00Z' },
    `invalid parameter "time": invalid time value for 'time': cannot parse "2023-02-30T00:00:00Z" ${NO_TIME}`,
  ],
  [
    'instant',
    { query: '1', time: '2023-11-14T22:13:20' },
    `invalid parameter "time": invalid time value for 'time': cannot parse "2023-11-14T22:13:20" ${NO_TIME}`,
  ],
  [
    'instant',
    { query: '1', time: 'x"é\u0001\u200b\u2028😀' },
    `invalid parameter "time": invalid time value for 'time': cannot parse "x\\"é\\x01\\u200b\\u2028😀" ${NO_TIME}`,
  ],
  ['instant', { query: '1', limit: 'abc' }, `invalid parameter "limit": ${ATOI} "abc": invalid syntax`],
  ['instant', { query: '1', limit: '1.5' }, `invalid parameter "limit": ${ATOI} "1.5": invalid syntax`],
  ['instant', { query: '1', limit: '-1' }, 'invalid parameter "limit": limit must be non-negative'],
  [
    'instant',
    { query: '1', limit: '99999999999999999999' },
    `invalid parameter "limit": ${ATOI} "99999999999999999999": value out of range`,
  ],
  ['instant', { query: 'up{', limit: 'x', time: 'y' }, `invalid parameter "limit": ${ATOI} "x": invalid syntax`],
  ['instant', { query: '1', timeout: 'x' }, 'invalid parameter "timeout": cannot parse "x" to a valid duration'],
  [
    'instant',
    { query: '1', timeout: '1e30' },
    'invalid parameter "timeout": cannot parse "1e30" to a valid duration. It overflows int64',
  ],
  [
    'instant',
    { query: '1', lookback_delta: 'x' },
    'error parsing lookback delta duration: cannot parse "x" to a valid duration',
  ],
  ['range', {}, `invalid parameter "start": cannot parse "" ${NO_TIME}`],
  ['range', { start: '1' }, `invalid parameter "end": cannot parse "" ${NO_TIME}`],
  ['range', { start: '1', end: 'x' }, `invalid parameter "end": cannot parse "x" ${NO_TIME}`],
  ['range', { start: '2', end: '1' }, 'invalid parameter "end": end timestamp must not be before start time'],
  ['range', { start: '1', end: '2' }, 'invalid parameter "step": cannot parse "" to a valid duration'],
  ['range', { start: '1', end: '2', step: '1x' }, 'invalid parameter "step": cannot parse "1x" to a valid duration'],
  [
    'range',
    { start: '1', end: '2', step: '1e30' },
    'invalid parameter "step": cannot parse "1e30" to a valid duration. It overflows int64',
  ],
  [
    'range',
    { start: '1', end: '2', step: 'Inf' },
    'invalid parameter "step": cannot parse "Inf" to a valid duration. It overflows int64',
  ],
  ['range', { start: '1', end: '2', step: '0' }, `invalid parameter "step": ${STEP}`],
  ['range', { start: '1', end: '2', step: '-1' }, `invalid parameter "step": ${STEP}`],
  ['range', { start: '1', end: '2', step: 'NaN' }, `invalid parameter "step": ${STEP}`],
  ['range', { start: '0', end: '11001', step: '1', query: '1' }, POINTS],
  ['range', { start: '0', end: '60', step: '0.0001', query: '1' }, POINTS],
  [
    'range',
    { start: '1', end: '2', step: '1' },
    'invalid parameter "query": unknown position: parse error: no expression found in input',
  ],
  [
    'range',
    { start: '1', end: '2', step: '1', query: '"a"' },
    'invalid parameter "query": invalid expression type "string" for range query, must be Scalar or instant Vector',
  ],
  [
    'range',
    { start: '1', end: '2', step: '1', query: 'up[5m]' },
    'invalid parameter "query": invalid expression type "range vector" for range query, must be Scalar or instant Vector',
  ],
  ['series', {}, 'no match[] parameter provided'],
  ['series', { limit: 'x' }, 'no match[] parameter provided'],
  ['series', { match: ['{'] }, `invalid parameter "match[]": 1:2: ${END_INSIDE}`],
  ['series', { match: [''] }, 'invalid parameter "match[]": unknown position: parse error: unexpected end of input'],
  ['series', { match: ['{a=~".*"}'] }, `invalid parameter "match[]": ${NON_EMPTY}`],
  ['series', { match: ['up', '{a=""}'] }, `invalid parameter "match[]": ${NON_EMPTY}`],
  [
    'series',
    { match: ['up'], start: 'x' },
    `invalid parameter "start": invalid time value for 'start': cannot parse "x" ${NO_TIME}`,
  ],
  [
    'series',
    { match: ['up'], end: 'x' },
    `invalid parameter "end": invalid time value for 'end': cannot parse "x" ${NO_TIME}`,
  ],
  ['series', { match: ['up'], limit: '-1' }, 'invalid parameter "limit": limit must be non-negative'],
  ['series', { match: ['up[5m]'] }, 'invalid parameter "match[]": 1:3: parse error: unexpected "["'],
  ['labels', { limit: 'x' }, `invalid parameter "limit": ${ATOI} "x": invalid syntax`],
  ['labels', { match: ['{'] }, `1:2: ${END_INSIDE}`],
  ['labels', { match: ['{a=""}'] }, NON_EMPTY],
  ['labels', { start: 'x' }, `invalid parameter "start": invalid time value for 'start': cannot parse "x" ${NO_TIME}`],
  ['label_values', { name: '' }, 'invalid label name: ""'],
  ['label_values', { name: 'job', limit: 'x' }, `invalid parameter "limit": ${ATOI} "x": invalid syntax`],
  ['label_values', { name: 'job', match: ['{'] }, `1:2: ${END_INSIDE}`],
  ['metadata', { limit: 'x' }, 'limit must be a number'],
  ['metadata', { limit_per_metric: 'x' }, 'limit_per_metric must be a number'],
  ['exemplars', {}, 'unknown position: parse error: no expression found in input'],
  ['exemplars', { query: 'up{' }, `1:4: ${END_INSIDE}`],
  [
    'exemplars',
    { query: 'up', start: 'x' },
    `invalid parameter "start": invalid time value for 'start': cannot parse "x" ${NO_TIME}`,
  ],
  ['exemplars', { query: 'up', start: '2', end: '1' }, 'end timestamp must not be before start timestamp'],
  ['format', {}, 'invalid parameter "query": unknown position: parse error: no expression found in input'],
  ['format', { query: 'foo{' }, `invalid parameter "query": 1:5: ${END_INSIDE}`],
]

/** Times as Prometheus reads them: the moment that a scalar is answered for. */
const times: readonly (readonly [string, number])[] = [
  ['-1.5', -1.5],
  ['1700000000.29', 1700000000.29],
  ['1699999999.9999', 1700000000],
  ['1e3', 1000],
  ['1_000', 1000],
  ['.5', 0.5],
  ['5.', 5],
  ['+5', 5],
  ['2023-11-14T22:13:20.123456Z', 1700000000.123],
  ['2023-11-14T22:13:20,5Z', 1700000000.5],
  ['2023-11-14T22:13:20+02:00', 1699992800],
  ['2023-11-14T2:13:20Z', 1699928000],
]

const succeeded: readonly (readonly [QueryKind, QueryParams, object])[] = [
  ['exemplars', { query: '1' }, { status: 'success' }],
  ['exemplars', { query: 'up' }, { status: 'success', data: [] }],
  ['series', { match: ['nope'] }, { status: 'success', data: [] }],
  ['labels', {}, { status: 'success', data: [] }],
  ['label_values', { name: 'a-b' }, { status: 'success', data: [] }],
  ['metadata', { metric: 'up' }, { status: 'success', data: {} }],
  ['format', { query: 'sum(rate(up[5m]))by(job)' }, { status: 'success', data: 'sum by (job) (rate(up[5m]))' }],
  [
    'range',
    { start: '1', end: '2', step: '1', query: '1' },
    {
      status: 'success',
      data: {
        resultType: 'matrix',
        result: [
          {
            metric: {},
            values: [
              [1, '1'],
              [2, '1'],
            ],
          },
        ],
      },
    },
  ],
  [
    'range',
    { start: '1', end: '2', step: '1m30s', query: 'up' },
    { status: 'success', data: { resultType: 'matrix', result: [] } },
  ],
]

describe('parameters', () => {
  let querier: Harness
  let ingester: StubIngester
  beforeAll(async () => {
    const hub = memoryHub()
    ingester = await stubIngester({ hub, id: 'ingester-1', data: { 0: [] } })
    querier = await startQuerier(hub, fixedMembership([['ingester-1']]))
  })
  afterAll(async () => {
    await querier.stop()
    await ingester.stop()
  })

  it.each(['0', '0s', '-1', 'NaN', '0.0000001'])('a timeout of %s is over before the query begins', async (timeout) => {
    for (const query of ['1', 'up']) {
      expect(await querier.ask('instant', { query, timeout })).toEqual({
        status: 'error',
        errorType: 'timeout',
        error: 'query timed out in query execution',
      })
    }
  })

  it.each(refused)('PARAMETER-1: %s %j is refused as Prometheus refuses it', async (kind, params, error) => {
    expect(await querier.ask(kind, params)).toEqual({ status: 'error', errorType: 'bad_data', error })
  })

  it.each(times)('PARAMETER-1: the time %s is %d', async (time, seconds) => {
    const body = await querier.ask('instant', { query: '1', time })
    expect(body.data).toEqual({ resultType: 'scalar', result: [seconds, '1'] })
  })

  it.each(succeeded)('%s %j is answered as by Prometheus', async (kind, params, body) => {
    expect(await querier.ask(kind, params)).toEqual(body)
  })

  it('an unknown value of stats is answered, with a warning', async () => {
    const body = await querier.ask('instant', { query: '1', stats: 'foo' })
    expect(body.warnings).toEqual([
      'value "foo" for parameter "stats" is deprecated and will be rejected in the next major release, use "true" or "all"',
    ])
    expect(Object.keys((body.data as { stats: object }).stats)).toEqual(['timings', 'samples'])
  })
})
