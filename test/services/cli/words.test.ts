// What a command line that cannot be right is told: what came, what was wanted, and 2 or 1, never "a bug".
import { execFile } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterAll, expect, it } from 'vitest'
import { launch, temporaryFolder } from '../launcher/carillon-process.ts'

const folder = temporaryFolder()
const file = path.join(folder, 'file')
fs.writeFileSync(file, '')
fs.mkdirSync(path.join(folder, '01M7R6XPER79CH6FEYKGWM2SZP'))

afterAll(() => fs.rmSync(folder, { recursive: true }))

const cases: readonly (readonly [string, number, string])[] = [
  ['ring --nats nats://x:y', 2, '--nats is "nats://x:y", wants addresses such as nats://host:4222'],
  ['ring --prefix=a.b', 2, '--prefix is "a.b", wants letters, digits'],
  ['querier --nats nats://h:1 --id=a/b', 2, '--id is "a/b", wants letters, digits'],
  ['limits get --tenant ../x --nats nats://h:1', 2, "unsupported character '/'"],
  ['limits get query_series_max --nats nats://h:1', 2, '"query_series_max" is not expected here'],
  ['limits set query_series_max --nats nats://h:1', 2, '"query_series_max" is no limit with a value'],
  [`blocks verify ${folder} --block 01AAAAAAAAAAAAAAAAAAAAAAAA`, 1, 'does not hold all of 01AAAAAAAAAAAAAAAAAAAAAAAA'],
  [`blocks download ${file}`, 1, 'EEXIST'],
  ['help flsh', 2, 'did you mean flush?'],
  ['help flush mark', 2, 'help wants one command'],
  ['flsh', 2, 'did you mean flush?'],
  ['toString', 2, 'there is no command "toString"'],
  ['blocks toString', 2, 'blocks wants one of'],
  ['delete toString --tenant acme', 2, 'delete wants one of'],
]

const users = path.join(folder, 'users.yaml')
fs.writeFileSync(users, 'users: [{ username: a, password_hash: plain, rights: [read] }]')
const policies = path.join(folder, 'policies.yaml')
fs.writeFileSync(policies, 'default: { keep: soon }')
const gone = path.join(folder, 'gone.yaml')
const notMade = path.join(folder, 'data')

const unsound: readonly (readonly [string, string])[] = [
  ['start --listen 0.0.0.0:0', 'err-carillon-open-door'],
  ['start --listen nowhere', 'err-carillon-listen'],
  [`start --listen 127.0.0.1:0 --auth-file ${gone}`, 'err-carillon-auth-file'],
  [`start --listen 127.0.0.1:0 --auth-file ${users}`, 'err-carillon-auth-file'],
  [`start --listen 127.0.0.1:0 --policy-file ${gone}`, 'err-carillon-policy-file'],
  [`cluster --listen 127.0.0.1:0 --policy-file ${policies}`, 'err-carillon-policy-file'],
  ['start --listen 127.0.0.1:0 --second-store /mnt', 'err-carillon-second-store'],
  ['start --listen 127.0.0.1:0 --ha-tenant-labels a', 'err-carillon-ha-tenant-labels'],
]

it('what only an actor would notice is found before anything starts, in one line with its stable id', async () => {
  const told = unsound.map(async ([line, id]) => {
    const one = launch([...line.split(' '), `--data=${notMade}`])
    expect([(await one.ended).code, one.stderr()], line).toEqual([
      2,
      expect.stringMatching(`^carillon: .*\\(${id}\\)\n$`),
    ])
  })
  const alone = launch(['gateway', '--nats=nats://127.0.0.1:1', '--listen=:0'])
  expect([(await alone.ended).code, alone.stderr()]).toEqual([2, expect.stringMatching(/^carillon: .*open-door\)\n$/)])
  await Promise.all(told)
  expect(fs.existsSync(notMade)).toBe(false)
})

it('wrong words are named, with what was wanted', async () => {
  const told = cases.map(async ([line, exitCode, text]) => {
    const one = launch(line.split(' '))
    expect([(await one.ended).code, one.stderr()], line).toEqual([exitCode, expect.stringContaining(text)])
    expect(one.stderr()).not.toContain('a bug')
  })
  await Promise.all(told)
})

it('help and version are commands like others, and flags', async () => {
  const said = async (line: string) => {
    const entry = path.resolve(import.meta.dirname, '../../../services/carillon.mjs')
    const args = line === '' ? [] : line.split(' ')
    return (await promisify(execFile)(process.execPath, [entry, ...args])).stdout // rejects unless the exit code is 0
  }
  const [none, help, flag, ofLimits, limitsHelp, version, versionFlag] = await Promise.all(
    ['', 'help', '--help', 'help limits', 'limits --help', 'version', '--version'].map(said),
  )
  expect([none, flag]).toEqual([help, help])
  for (const name of ['start', 'limits', 'ingester', 'help', 'version', 'test, check'])
    expect(help).toMatch(new RegExp(`^ {2}${name} +\\S`, 'm'))
  expect(ofLimits).toBe(limitsHelp)
  expect(ofLimits).toContain('--gateway')
  expect(version).toMatch(/^\d+\.\d+\.\d+\n$/)
  expect(versionFlag).toBe(version)
})
