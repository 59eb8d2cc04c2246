import { expect, it } from 'vitest'
import { beatFaults } from '../../../shared/config/common.ts'
import { helpText, settingsMarkdown } from '../../../shared/config/help.ts'
import { faultsText, readSettings } from '../../../shared/config/read.ts'
import {
  bytes,
  choice,
  defaultsOf,
  defineSettings,
  duration,
  flag,
  integer,
  list,
  number,
  text,
  toFlags,
} from '../../../shared/config/settings.ts'
import { parseBytes, parseDuration, showBytes, showDuration } from '../../../shared/config/units.ts'

const table = defineSettings({
  lingerMs: duration('5ms', 'how long a batch waits', { max: '10s' }),
  batchBytesMax: bytes('256KiB', 'largest batch'),
  requireTenant: flag(false, 'refuse pushes without a tenant'),
  partitions: integer(1, 'number of logs', { min: 1, max: 1024 }),
  ratio: number(0.5, 'some ratio', { min: 0, max: 1 }),
  listen: text('127.0.0.1:9009', 'where to listen'),
  enableFeature: list([], 'features'),
  logLevel: choice(['info', 'warn'], 'info', 'least level'),
  dataDir: text('./data', 'data folder', { name: 'data' }),
})

const noFile = (path: string): string => {
  throw new Error(`no file ${path}`)
}
const read = (argv: string[], env: Record<string, string> = {}, file?: string) =>
  readSettings([table], argv, env, file === undefined ? noFile : () => file)
const configOf = (argv: string[], env: Record<string, string> = {}, file?: string) => {
  const { configs, faults } = read(argv, env, file)
  expect(faults).toEqual([])
  return configs[0]
}
const faultOf = (argv: string[], env: Record<string, string> = {}, file?: string) =>
  read(argv, env, file).faults.join('\n')

it('SETTING-1: a flag beats the environment, which beats the file, which beats the default', () => {
  const file = 'linger: 1ms\npartitions: 2\nlisten: file\n'
  const config = configOf(
    ['--config', 'c.yaml', '--linger', '3ms'],
    { CARILLON_LINGER: '2ms', CARILLON_PARTITIONS: '3' },
    file,
  )
  expect(config).toMatchObject({ lingerMs: 3, partitions: 3, listen: 'file', batchBytesMax: 262_144 })
})

it('SETTING-3: a config is frozen', () => {
  const config = configOf([]) as { lingerMs: number }
  expect(() => {
    config.lingerMs = 7
  }).toThrow(TypeError)
})

it.each([
  [['--linger=1m30s'], {}, false],
  [['--batch-bytes-max', '1MB'], { batchBytesMax: 1_000_000 }, true],
  [['--batch-bytes-max=512'], { batchBytesMax: 512 }, true],
  [['--require-tenant'], { requireTenant: true }, true],
  [['--require-tenant=no'], { requireTenant: false }, true],
  [['--no-require-tenant'], { requireTenant: false }, true],
  [['--enable-feature', 'a', '--enable-feature=b,c'], { enableFeature: ['a', 'b', 'c'] }, true],
  [['--data', '/d'], { dataDir: '/d' }, true],
  [['--ratio', '1e-1'], { ratio: 0.1 }, true],
  [['--partitions', '1025'], {}, false],
  [['--partitions', '1.5'], {}, false],
  [['--log-level', 'loud'], {}, false],
  [['--ratio', 'NaN'], {}, false],
] as const)('reads %j', (argv, wanted, isGood) => {
  const { configs, faults } = read([...argv])
  expect(faults.length === 0).toBe(isGood)
  if (isGood) expect(configs[0]).toMatchObject(wanted)
})

it('SETTING-2: all faults stand in one message and say what came and what is wanted', () => {
  const file = 'linger: soon\nlistne: x\n'
  const { faults } = read(['--config=c.yaml', '--partitons', '2', '--log-level', 'loud'], { CARILLON_RATIO: '7' }, file)
  expect(faultsText(faults).split('\n')).toEqual([
    '5 settings are wrong:',
    '  --partitons is unknown; did you mean --partitions?',
    '  c.yaml:2: the key listne is unknown; did you mean listen?',
    '  c.yaml:1: linger is "soon", wants a duration such as 5ms, 1m30s or 1y, at most 10s',
    '  CARILLON_RATIO is "7", wants a number from 0 to 1',
    '  --log-level is "loud", wants one of info, warn',
  ])
})

it('names a missing value, a stray word, an unreadable file and broken YAML', () => {
  expect(faultOf(['--linger'])).toContain('--linger has no value')
  expect(faultOf(['gateway'])).toContain('"gateway" is not expected here')
  expect(faultOf([], { CARILLON_CONFIG: 'x.yaml' })).toContain('no file x.yaml')
  expect(faultOf(['--config=c'], {}, 'a: [1\nb: 2')).toMatch(/^c:\d+: /)
  expect(faultOf(['--config=c'], {}, '- a\n')).toContain('key: value')
})

it('reads JSON files and passes over the keys of other services', () => {
  const file = '{"linger": "7ms", "enable_feature": ["x", "y"], "require_tenant": true, "lookback": "5m"}'
  const others = { alsoKnown: [defineSettings({ lookbackMs: duration('5m', 'lookback') })] }
  const { configs, faults } = readSettings([table], ['--config', 'c.json'], {}, () => file, others)
  expect(faults).toEqual([])
  expect(configs[0]).toMatchObject({ lingerMs: 7, enableFeature: ['x', 'y'], requireTenant: true })
})

it('warns of a variable that looks like a misspelt setting', () => {
  expect(read([], { CARILLON_LINGR: '1ms', CARILLON_GATEWAY_PORT_80_TCP: 'x' }).warnings).toEqual([
    'the variable CARILLON_LINGR is not a setting; did you mean CARILLON_LINGER?',
  ])
})

it('a config goes to a child process as flags and comes back equal', () => {
  const config = defaultsOf(table, {
    lingerMs: 90_001.5,
    enableFeature: ['a', 'b'],
    requireTenant: true,
    dataDir: './x y',
  })
  expect(configOf(toFlags(table, { ...config, lingerMs: 7 }))).toEqual({ ...config, lingerMs: 7 })
})

it('years are read as 365 days', () => {
  expect(parseDuration('1y')).toBe(365 * 86_400_000)
  expect(parseDuration('1y2w3d')).toBe((365 + 14 + 3) * 86_400_000)
  expect(parseDuration(showDuration(parseDuration('1y') ?? 0))).toBe(365 * 86_400_000)
})

it.each(['0', '5ms', '1m30s', '1h30m', '2w1d'])('duration %s survives reading and showing', (text) => {
  expect(showDuration(parseDuration(text) ?? -1)).toBe(text)
})

it.each(['0', '512B', '256KiB', '1MB', '16GiB'])('size %s survives reading and showing', (text) => {
  expect(showBytes(parseBytes(text) ?? -1)).toBe(text)
})

it('help and documentation name every flag with its default', () => {
  const section = { title: 'All', table }
  const help = helpText({ usage: 'carillon x', intro: 'X.', sections: [section] })
  expect(help).toContain('--batch-bytes-max <bytes> (default 256KiB)')
  expect(settingsMarkdown([section])).toContain(
    '| `--data` | `CARILLON_DATA` | `data` | `./data` | data folder (text) |',
  )
})

it('an actor is not taken for silent before it has missed three heartbeats, nor forgotten before it is silent', () => {
  const faultsOf = (heartbeatMs: number, unhealthyAfterMs: number, forgetAfterMs = 60_000) =>
    beatFaults({ heartbeatMs, unhealthyAfterMs, forgetAfterMs })
  expect(faultsOf(5_000, 15_000)).toEqual([])
  expect(faultsOf(5_000, 14_999)[0]).toContain('--unhealthy-after is 14999 ms, less than 3 times --heartbeat (5000 ms)')
  expect(faultsOf(5_000, 15_000, 10_000)[0]).toContain('--forget-after is 10000 ms, less than --unhealthy-after')
})

it.each([
  ['itself', 'listen: &a [*a]'],
  [
    'others, nine levels deep',
    `enable_feature: &j [${[...'abcdefghi'].reduce((inner, name, i) => (i === 0 ? '&a [x,x,x,x,x,x,x,x,x]' : `&${name} [${inner}${`,*${'abcdefghi'[i - 1]}`.repeat(8)}]`), '')}]`,
  ],
])('an alias that names %s is no plain value, and costs nothing', (_, file) => {
  expect(faultOf(['--config', 'x.yaml'], {}, file)).toContain('holds no plain value')
})
