// What queries and other reads are refused for. See ../error-codes.ts.
import type { RefusedMeaning } from './meaning.ts'

export const refusedQueries = {
  'err-carillon-bad-data': {
    statuses: [400],
    meaning: 'The query is refused for a reason that its text tells in the words of Prometheus.',
    remedy: 'The asker corrects the query or its parameters.',
  },
  'err-carillon-bad-matcher': {
    statuses: [400],
    meaning: 'A pattern of a matcher is not a regular expression of RE2.',
    remedy: 'The asker corrects the pattern.',
  },
  'err-carillon-bad-parameter': {
    statuses: [400],
    meaning: 'A parameter of a query cannot be read.',
    remedy: 'The asker corrects the parameter.',
  },
  'err-carillon-canceled': {
    statuses: [503],
    meaning: 'The query was given up by the querier that ran it.',
    remedy: 'The asker asks again.',
  },
  'err-carillon-dropped': {
    statuses: [400],
    meaning: 'An owner has moved the samples asked for into blocks and no longer holds them.',
    remedy: 'Nobody has to act: the querier reads the blocks; an asker that sees it asks again.',
  },
  'err-carillon-execution': {
    statuses: [422],
    meaning: 'The query failed while it was carried out; its text tells why in the words of Prometheus.',
    remedy: 'The asker corrects the query.',
  },
  'err-carillon-pattern-size': {
    statuses: [400],
    meaning: 'A regular expression compiles to more instructions than allowed.',
    remedy: 'The asker simplifies the pattern.',
  },
  'err-carillon-pattern-work': {
    statuses: [422],
    meaning: 'Testing a pattern on the values of a label takes too long.',
    remedy: 'The asker narrows the query by other matchers or simplifies the pattern.',
  },
  'err-carillon-position': {
    statuses: [400],
    meaning: 'A log position (X-Carillon-Log-Position) is not partition/incarnation:sequence.',
    remedy: 'The asker sends back the position as the push answered it.',
  },
  'err-carillon-promql-cancelled': {
    statuses: [503],
    meaning: 'The query was given up because its asker left or its querier stops.',
    remedy: 'The asker asks again.',
  },
  'err-carillon-promql-execution': {
    statuses: [422],
    meaning: 'The expression fails on the data, for example by matching many to one.',
    remedy: 'The asker corrects the expression.',
  },
  'err-carillon-promql-parse': {
    statuses: [400],
    meaning: 'The expression is not PromQL.',
    remedy: 'The asker corrects the expression.',
  },
  'err-carillon-promql-samples': {
    statuses: [422],
    meaning: 'The query loads too many samples into memory at once.',
    remedy: 'The asker asks for less, or the operator raises --samples-max.',
  },
  'err-carillon-promql-timeout': {
    statuses: [503],
    meaning: 'The query took longer than its timeout.',
    remedy: 'The asker asks for less, or the operator raises the timeout.',
  },
  'err-carillon-querier-memory': {
    statuses: [422, 429],
    meaning: 'The querier has no memory left for this query.',
    remedy:
      'The asker waits and asks again, or asks for less; the operator adds queriers or raises --querier-memory-max.',
  },
  'err-carillon-query-block-bytes': {
    statuses: [422],
    meaning: 'The query reads more bytes of blocks than allowed.',
    remedy: 'The asker asks for less, or the operator raises --block-bytes-max or the limit of the tenant.',
  },
  'err-carillon-query-bytes': {
    statuses: [422],
    meaning: 'The query reads more bytes from ingesters than allowed.',
    remedy: 'The asker asks for less, or the operator raises --query-bytes-max or the limit of the tenant.',
  },
  'err-carillon-query-cancelled': {
    statuses: [422],
    meaning: 'Somebody cancelled the query by request.',
    remedy: 'The asker asks again if the answer is still wanted.',
  },
  'err-carillon-query-memory': {
    statuses: [422],
    meaning: 'The query needs more memory than one query may use.',
    remedy: 'The asker asks for less, or the operator raises --query-memory-max.',
  },
  'err-carillon-query-range': {
    statuses: [422],
    meaning: 'The query looks at more time than allowed.',
    remedy: 'The asker asks for less time at once, or the operator raises the limit.',
  },
  'err-carillon-query-samples': {
    statuses: [422],
    meaning: 'The query reads more samples than allowed.',
    remedy: 'The asker asks for less, or the operator raises --samples-max or the limit of the tenant.',
  },
  'err-carillon-query-series': {
    statuses: [422],
    meaning: 'The query selects more series than allowed.',
    remedy: 'The asker narrows the matchers, or the operator raises --series-max or the limit of the tenant.',
  },
  'err-carillon-range': {
    statuses: [416],
    meaning: 'The Range header asks for bytes that the file does not have.',
    remedy: 'The asker corrects the range.',
  },
  'err-carillon-read-queries': {
    statuses: [400],
    meaning: 'A remote read has too many queries or matchers.',
    remedy: 'The asker splits the request.',
  },
  'err-carillon-read-shape': {
    statuses: [400],
    meaning: 'A remote read wants an answer in a form that is not supported.',
    remedy: 'The asker accepts samples or streamed chunks.',
  },
  'err-carillon-reply-bytes': {
    statuses: [422],
    meaning: 'The answer is larger than an answer may be.',
    remedy: 'The asker asks for less, or remote read asks for streamed chunks.',
  },
  'err-carillon-selectors': {
    statuses: [400],
    meaning: 'The request has more match[] parameters than allowed.',
    remedy: 'The asker splits the request.',
  },
  'err-carillon-timeout': {
    statuses: [503],
    meaning: 'The query took longer than its timeout.',
    remedy: 'The asker asks for less, or the operator raises the timeout.',
  },
  'err-carillon-too-many-queries': {
    statuses: [429],
    meaning: 'As many queries run and wait as are allowed, in all or of this tenant.',
    remedy: 'The asker waits and asks again, or the operator adds queriers.',
  },
  'err-carillon-too-many-requests': {
    statuses: [429],
    meaning: 'Too many queries run or wait.',
    remedy: 'The asker waits and asks again.',
  },
} as const satisfies Readonly<Record<string, RefusedMeaning>>
