// The selectors in a query, for exemplars: every place where it names series.
import type { Matcher } from '../../../shared/model/matcher.ts'
import type { Expr } from '../../../shared/promql/ast.ts'

export function selectorsIn(expr: Expr): readonly (readonly Matcher[])[] {
  switch (expr.kind) {
    case 'selector':
      return [expr.matchers]
    case 'matrix':
      return [expr.selector.matchers]
    case 'subquery':
    case 'unary':
    case 'paren':
      return selectorsIn(expr.expr)
    case 'call':
      return expr.args.flatMap(selectorsIn)
    case 'aggregation':
      return [...selectorsIn(expr.expr), ...(expr.param === undefined ? [] : selectorsIn(expr.param))]
    case 'binary':
      return [...selectorsIn(expr.left), ...selectorsIn(expr.right)]
    case 'number':
    case 'string':
    case 'duration':
      return []
  }
}
