// What a command line that cannot be right is told: what came, what was wanted, and 2 or 1, never "a bug".
import fs from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import { launch, temporaryFolder } from '../launcher/carillon-process.ts'

const folder = temporaryFolder()
const file = path.join(folder, 'file')
fs.writeFileSync(file, '')
fs.mkdirSync(path.join(folder, '01M7R6XPER79CH6FEYKGWM2SZP'))

const cases: readonly (readonly [string, number, string])[] = [
  ['ring --nats nats://x:y', 2, '--nats is "nats://x:y", wants addresses such as nats://host:4222'],
  ['ring --prefix=a.b', 2, '--prefix is "a.b", wants letters, digits'],
  ['querier --nats nats://h:1 --id=a/b', 2, '--id is "a/b", wants letters, digits'],
  ['limits get --tenant ../x --nats nats://h:1', 2, "unsupported character '/'"],
  ['limits get query_series_max --nats nats://h:1', 2, '"query_series_max" is not expected here'],
  ['limits set query_series_max --nats nats://h:1', 2, '"query_series_max" is no limit with a value'],
  [`blocks verify ${folder} --block 01AAAAAAAAAAAAAAAAAAAAAAAA`, 1, 'does not hold all of 01AAAAAAAAAAAAAAAAAAAAAAAA'],
  [`blocks download ${file}`, 1, 'EEXIST'],
  ['flsh', 2, 'did you mean flush?'],
  ['toString', 2, 'there is no command "toString"'],
  ['blocks toString', 2, 'blocks wants one of'],
  ['delete toString --tenant acme', 2, 'delete wants one of'],
]

it('wrong words are named, with what was wanted', async () => {
  const told = cases.map(async ([line, exitCode, text]) => {
    const one = launch(line.split(' '))
    expect([(await one.ended).code, one.stderr()], line).toEqual([exitCode, expect.stringContaining(text)])
    expect(one.stderr()).not.toContain('a bug')
  })
  await Promise.all(told)
  fs.rmSync(folder, { recursive: true })
})
