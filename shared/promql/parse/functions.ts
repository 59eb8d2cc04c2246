// The functions of PromQL: what each takes and gives.
import type { ValueType } from '../ast.ts'

export interface FunctionSignature {
  readonly name: string
  readonly argTypes: readonly ValueType[]
  /** 0: exactly `argTypes`. n: the last one may be missing, or come up to n times. -1: any number of times. */
  readonly variadic: number
  readonly returnType: ValueType
  /** Only with the feature `promql-experimental-functions`. */
  readonly isExperimental: boolean
}

/** `name(argument types) result type, variadic, experimental`. */
const TABLE = `
abs(vector) vector
absent(vector) vector
absent_over_time(matrix) vector
acos(vector) vector
acosh(vector) vector
asin(vector) vector
asinh(vector) vector
atan(vector) vector
atanh(vector) vector
avg_over_time(matrix) vector
ceil(vector) vector
changes(matrix) vector
clamp(vector scalar scalar) vector
clamp_max(vector scalar) vector
clamp_min(vector scalar) vector
cos(vector) vector
cosh(vector) vector
count_over_time(matrix) vector
day_of_month(vector) vector 1
day_of_week(vector) vector 1
day_of_year(vector) vector 1
days_in_month(vector) vector 1
deg(vector) vector
delta(matrix) vector
deriv(matrix) vector
double_exponential_smoothing(matrix scalar scalar) vector 0 experimental
end() scalar 0 experimental
exp(vector) vector
first_over_time(matrix) vector
floor(vector) vector
histogram_avg(vector) vector
histogram_count(vector) vector
histogram_fraction(scalar scalar vector) vector
histogram_quantile(scalar vector) vector
histogram_quantiles(vector string scalar scalar) vector 9 experimental
histogram_stddev(vector) vector
histogram_stdvar(vector) vector
histogram_sum(vector) vector
hour(vector) vector 1
idelta(matrix) vector
increase(matrix) vector
info(vector vector) vector 1 experimental
irate(matrix) vector
label_join(vector string string string) vector -1
label_replace(vector string string string string) vector
last_over_time(matrix) vector
ln(vector) vector
log10(vector) vector
log2(vector) vector
mad_over_time(matrix) vector 0 experimental
max_of(scalar scalar) scalar 0 experimental
max_over_time(matrix) vector
min_of(scalar scalar) scalar 0 experimental
min_over_time(matrix) vector
minute(vector) vector 1
month(vector) vector 1
pi() scalar
predict_linear(matrix scalar) vector
present_over_time(matrix) vector
quantile_over_time(scalar matrix) vector
rad(vector) vector
range() scalar 0 experimental
rate(matrix) vector
resets(matrix) vector
round(vector scalar) vector 1
scalar(vector) scalar
sgn(vector) vector
sin(vector) vector
sinh(vector) vector
sort(vector) vector
sort_by_label(vector string) vector -1 experimental
sort_by_label_desc(vector string) vector -1 experimental
sort_desc(vector) vector
sqrt(vector) vector
start() scalar 0 experimental
start_timestamp(vector) vector 0 experimental
stddev_over_time(matrix) vector
stdvar_over_time(matrix) vector
step() scalar 0 experimental
sum_over_time(matrix) vector
tan(vector) vector
tanh(vector) vector
time() scalar
timestamp(vector) vector
ts_of_first_over_time(matrix) vector 0 experimental
ts_of_last_over_time(matrix) vector 0 experimental
ts_of_max_over_time(matrix) vector 0 experimental
ts_of_min_over_time(matrix) vector 0 experimental
vector(scalar) vector
year(vector) vector 1`

export const FUNCTIONS: ReadonlyMap<string, FunctionSignature> = new Map(
  TABLE.trim()
    .split('\n')
    .map((line) => signatureFrom(line))
    .map((signature) => [signature.name, signature]),
)

function signatureFrom(line: string): FunctionSignature {
  const [, name, args, returnType, variadic = '0', experimental] =
    /^(\w+)\(([\w ]*)\) (\w+)(?: (-?\d+))?(?: (experimental))?$/.exec(line)!
  return {
    name: name!,
    argTypes: args === '' ? [] : (args!.split(' ') as ValueType[]),
    variadic: Number(variadic),
    returnType: returnType as ValueType,
    isExperimental: experimental !== undefined,
  }
}
