// What Prometheus tells of itself under `/api/v1/status`, as far as it means something here: this gateway's run, flags and config.
import { availableParallelism } from 'node:os'
import { getHeapStatistics } from 'node:v8'
import { stringify } from 'yaml'
import type { Clock } from '../../../shared/base/clock.ts'
import { fileKey, flagName } from '../../../shared/config/settings.ts'
import { type GatewayConfig, gatewaySettings } from '../config.ts'
import { jsonAnswer, type Route } from '../http/exchange.ts'
import { API_ROOTS } from './queries.ts'

export interface StatusApiDeps {
  readonly id: string
  readonly clock: Clock
  readonly config: GatewayConfig
}

/** Shown as set or not: paths on this machine are not for tenants. */
const HIDDEN: ReadonlySet<string> = new Set(['authFile'])

export function statusApiRoutes({ id, clock, config }: StatusApiDeps): readonly Route[] {
  const startedAt = new Date(clock.now()).toISOString()
  const flags = Object.fromEntries(
    shownSettings(config).map(([key, setting, value]) => [flagName(key, setting), value]),
  )
  const yaml = stringify(
    Object.fromEntries(shownSettings(config).map(([key, setting, value]) => [fileKey(flagName(key, setting)), value])),
  )
  const answers: Readonly<Record<string, () => unknown>> = {
    runtimeinfo: () => ({
      startTime: startedAt,
      CWD: '',
      hostname: id,
      serverTime: new Date(clock.now()).toISOString(),
      reloadConfigSuccess: true,
      lastConfigTime: startedAt,
      corruptionCount: 0,
      goroutineCount: process.getActiveResourcesInfo().length,
      GOMAXPROCS: availableParallelism(),
      GOMEMLIMIT: getHeapStatistics().heap_size_limit,
      GOGC: '',
      GODEBUG: '',
      storageRetention: '',
    }),
    flags: () => flags,
    config: () => ({ yaml }),
  }
  return Object.entries(answers).flatMap(([name, answer]) =>
    API_ROOTS.map(
      (root): Route => ({
        name,
        methods: ['GET'],
        path: `${root}/api/v1/status/${name}`,
        access: 'read',
        errors: 'json',
        hasCors: true,
        answer: () => jsonAnswer(answer()),
      }),
    ),
  )
}

type Shown = readonly [string, (typeof gatewaySettings)[keyof typeof gatewaySettings], string]

function shownSettings(config: GatewayConfig): Shown[] {
  return Object.entries(gatewaySettings).map(([key, setting]) => {
    const value = config[key as keyof GatewayConfig]
    const text = (setting.show as (value: unknown) => string)(value)
    return [key, setting, HIDDEN.has(key) && text !== '' ? '<set>' : text]
  })
}
