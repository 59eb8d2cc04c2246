// The house rules as a test. The table of stairs is the map of the project.
import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { filesIn, foldersIn, readSource, root, type Source, sourcesIn } from './sources.ts'

/** Who may import whom: a room imports rooms on lower stairs, and those named in `also`. */
const stairs: Readonly<Record<string, { readonly stair: number; readonly also?: readonly string[] }>> = {
  base: { stair: 0 },
  model: { stair: 1 },
  config: { stair: 1 },
  wire: { stair: 1, also: ['model'] },
  telemetry: { stair: 1, also: ['config', 'model'] },
  nats: { stair: 1 },
  bus: { stair: 2 },
  ring: { stair: 2 },
  tsdb: { stair: 2 },
  promql: { stair: 2 },
  objects: { stair: 2 },
  contracts: { stair: 3 },
  kv: { stair: 3, also: ['contracts'] },
  membership: { stair: 3, also: ['contracts', 'kv'] },
  blocks: { stair: 3, also: ['contracts', 'kv'] },
  limits: { stair: 3, also: ['contracts', 'kv'] },
  elections: { stair: 3, also: ['contracts'] },
}

/** What a file of services/ may import of others there: the table of roles all of them, the entry and its commands what runs them. */
const overServices: readonly (readonly [files: RegExp, imports: RegExp])[] = [
  [/^services\/roles\.ts$/, /./],
  [/^services\/(main\.ts$|cli\/)/, /^services\/(cli|launcher)\/|^services\/roles\.ts$/],
]

const linesMax = 500
/** Files that may be longer, each with its reason. */
const longFiles: Readonly<Record<string, string>> = {
  'shared/tsdb/head/series-chunks.ts': 'the hot half of a head: only it knows the words of a record',
  'shared/wire/remote-write.ts': 'two formats in one pass: splitting it would split the hot loop',
}

const code = sourcesIn(['shared', 'services'], /\.(ts|mjs)$/)
const typescript = code.filter((source) => source.file.endsWith('.ts'))
const tests = sourcesIn(['test'], /\.ts$/)

/** The places that break a rule, as `file:line: text`. */
function places(sources: readonly Source[], pattern: RegExp): string[] {
  return sources.flatMap(({ file, lines }) =>
    lines.flatMap((line, index) => (pattern.test(line) ? [`${file}:${index + 1}: ${line.trim()}`] : [])),
  )
}

const roomOf = (file: string): string => file.split('/')[1] ?? ''

describe('stairs', () => {
  it('every room of shared/ stands in the table', () => {
    expect(foldersIn('shared').filter((room) => stairs[room] === undefined)).toEqual([])
  })

  it('imports go down, never sideways or up', () => {
    const wrong = typescript.flatMap(({ file, imports }) =>
      imports.filter((name) => !mayImport(file, name)).map((name) => `${file} imports ${name}`),
    )
    expect(wrong).toEqual([])
  })

  it('the rule itself refuses what it should', () => {
    expect(mayImport('shared/base/a.ts', 'shared/model/b.ts')).toBe(false)
    expect(mayImport('shared/promql/a.ts', 'shared/tsdb/b.ts')).toBe(false)
    expect(mayImport('services/gateway/a.ts', 'services/ingester/b.ts')).toBe(false)
    expect(mayImport('shared/wire/a.ts', 'shared/model/b.ts')).toBe(true)
    expect(mayImport('services/ingester/a.ts', 'services/roles.ts')).toBe(false)
    expect(mayImport('services/launcher/a.ts', 'services/cli/b.ts')).toBe(false)
    expect(mayImport('services/cli/a.ts', 'services/ingester/b.ts')).toBe(false)
    expect(mayImport('services/main.ts', 'services/ingester/b.ts')).toBe(false)
    expect(mayImport('services/cli/a.ts', 'services/roles.ts')).toBe(true)
    expect(mayImport('services/roles.ts', 'services/ingester/b.ts')).toBe(true)
  })

  it('only files named nats-* import a NATS package', () => {
    const wrong = typescript.filter(
      ({ file, imports }) =>
        !(file.split('/').at(-1) ?? '').startsWith('nats-') && imports.some((name) => name.startsWith('@nats-io/')),
    )
    expect(wrong.map(({ file }) => file)).toEqual([])
  })

  it('what runs imports no package that only tests and tools have', () => {
    const { dependencies } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as {
      dependencies: Readonly<Record<string, string>>
    }
    const packageOf = (name: string) => /^(@[^/]+\/[^/]+|[^/]+)/.exec(name)?.[1] ?? ''
    const isForeign = (name: string) => /^(?!shared\/|services\/)(@[a-z][\w-]*\/)?[a-z][\w.-]*(\/[\w./-]+)?$/.test(name)
    const wrong = code.flatMap(({ file, imports }) =>
      imports
        .filter((name) => isForeign(name) && !Object.hasOwn(dependencies, packageOf(name)))
        .map((name) => `${file} imports ${name}`),
    )
    expect(wrong).toEqual([])
  })

  function mayImport(file: string, name: string): boolean {
    const isOurs = name.startsWith('shared/') || name.startsWith('services/')
    if (!isOurs) return !name.startsWith('test/')
    if (file.startsWith('services/')) {
      const isAbove = overServices.some(([files, imports]) => files.test(file) && imports.test(name))
      return name.startsWith('shared/') || isAbove || roomOf(file) === roomOf(name)
    }
    if (!name.startsWith('shared/')) return false
    const [from, to] = [stairs[roomOf(file)], stairs[roomOf(name)]]
    if (from === undefined || to === undefined) return false
    return roomOf(file) === roomOf(name) || to.stair < from.stair || (from.also ?? []).includes(roomOf(name))
  }
})

describe('habits', () => {
  it('no default exports', () => {
    expect(places(typescript, /^export default /)).toEqual([])
  })

  it('no barrels', () => {
    expect(typescript.filter(({ file }) => file.endsWith('/index.ts')).map(({ file }) => file)).toEqual([])
  })

  it('the environment is read only where the process begins', () => {
    const others = code.filter(
      ({ file }) =>
        !['services/main.ts', 'services/carillon.mjs'].includes(file) && !/^services\/(launcher|cli)\//.test(file),
    )
    expect(places(others, /\bprocess\.env\b/)).toEqual([])
  })

  it('time and chance come in by the door', () => {
    const others = code.filter(
      ({ file }) => !/^(shared\/base|services\/launcher)\/|^services\/(main\.ts|carillon\.mjs)$/.test(file),
    )
    expect(
      places(others, /(?<![.\w])(Date\.now|Math\.random|setTimeout|setInterval|performance\.now)\(|new Date\(\)/),
    ).toEqual([])
  })

  it(`no file is longer than ${linesMax} lines without a reason`, () => {
    const long = [...typescript, ...tests].filter(({ lines }) => lines.length > linesMax).map(({ file }) => file)
    expect(long.filter((file) => longFiles[file] === undefined)).toEqual([])
    expect(Object.keys(longFiles).filter((file) => !long.includes(file))).toEqual([])
  })

  it('no paths of one machine', () => {
    expect(
      places([...code, ...tests], new RegExp(`(^|[^\\w.])/(${['work', 'tmp/bash', 'home'].join('|')})[/_]`)),
    ).toEqual([])
  })

  it('nothing is left for later in a comment', () => {
    expect(
      places(
        [...code, ...tests],
        new RegExp(`\\b(${['TO', 'FIX', 'XX'].map((word, i) => word + ['DO', 'ME', 'X'][i]).join('|')})\\b`),
      ),
    ).toEqual([])
  })

  it('every file says what it is at its head', () => {
    const bare = typescript.filter(({ lines }) => !/^(\/\/|\/\*\*|#!)/.test(lines[0] ?? ''))
    expect(bare.map(({ file }) => file)).toEqual([])
  })

  it('subjects stand only in contracts', () => {
    const others = typescript.filter(({ file }) => !file.startsWith('shared/contracts/'))
    expect(places(others, /^(?!\s*(\/\/|\*|\/\*)).*['"`]cln\./)).toEqual([])
  })

  it('contracts only declare: none asks, changes a record, or says what a change means', () => {
    const declaring = /^shared\/(contracts\/|bus\/(contract|record|shape|port)\.ts$|(base|model|wire|ring|promql)\/)/
    const wrong = typescript.flatMap(({ file, imports }) =>
      file.startsWith('shared/contracts/')
        ? imports.filter((name) => !declaring.test(name)).map((n) => `${file}: ${n}`)
        : [],
    )
    expect(wrong).toEqual([])
  })

  it('what is asked is a Request, what comes back a Reply', () => {
    expect(places([...typescript, ...tests], /\b(interface|type) \w+Ask\b/)).toEqual([])
    const contracts = typescript.filter(({ file }) => file.startsWith('shared/contracts/'))
    expect(
      places(contracts, /\brequest: cbor<(?!\w+Request>|Record<string, never>>)|\breply: cbor<(?!\w+Reply>)/),
    ).toEqual([])
  })

  it('label texts are joined to keys in one place: no separator can be told from what a text holds', () => {
    // hashes that place things and tell none apart
    const placing = ['shared/ring/series-hash.ts', 'shared/ring/owners.ts', 'services/distributor/log/partitions.ts']
    const others = code.filter(({ file }) => !placing.includes(file))
    expect(places(others, /join\(['"`]\\(x|u)|\}\\(x[\da-f]{2}|u[\da-f]{4}|0)(`|\$\{)/i)).toEqual([])
  })

  it('no names that say nothing', () => {
    const empty = [...code, ...tests].filter(({ file }) =>
      /(^|\/)(utils?|helpers?|misc|manager|common-.*)\.ts$/.test(file),
    )
    expect(empty.map(({ file }) => file)).toEqual([])
  })
})

describe('papers', () => {
  it('every room has a README', () => {
    const rooms = [
      ...foldersIn('shared').map((room) => `shared/${room}`),
      ...foldersIn('services').map((room) => `services/${room}`),
    ].filter((room) => filesIn(room).length > 0)
    expect(rooms.filter((room) => !filesIn(room).includes(`${room}/README.md`))).toEqual([])
  })

  it('every metric stands in docs/metrics.md', () => {
    const document = fs.readFileSync(path.join(root, 'docs/metrics.md'), 'utf8')
    const names = typescript.flatMap(({ text }) =>
      [...text.matchAll(/['"`](carillon_[a-z_]+)['"`{]/g)].map(([, name]) => name),
    )
    expect([...new Set(names)].filter((name) => !document.includes(`\`${name}\``))).toEqual([])
  })

  it('documents name only files that exist', () => {
    const papers = [
      ...sourcesIn(['docs', 'services', 'shared', 'test'], /\.md$/),
      ...['README.md', 'ARCHITECTURE.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'DIFFERENCES.md', 'SECURITY.md'].map(
        readSource,
      ),
    ]
    const wrong = papers.flatMap(({ file, text }) => {
      const links = [...text.matchAll(/\]\((?!\w+:)([^)#\s]+)/g)].map(([, link = '']) =>
        path.join(path.dirname(file), link),
      )
      const named = text.match(/\b(?:docs|services|shared|test)\/[\w./-]+\.(?:ts|mjs|md|hex)\b/g) ?? []
      const absent = [...links, ...named].filter((name) => !fs.existsSync(path.join(root, name)))
      return absent.map((name) => `${file}: ${name}`)
    })
    expect(wrong).toEqual([])
  })

  it('every package comes with a checksum, of other platforms too', () => {
    const { packages } = JSON.parse(readSource('package-lock.json').text) as {
      packages: Record<string, { integrity?: string; link?: boolean }>
    }
    const fetched = Object.entries(packages).filter(([at, { link }]) => at.includes('node_modules/') && link !== true)
    expect(fetched.length).toBeGreaterThan(100)
    expect(fetched.filter(([, { integrity }]) => integrity === undefined).map(([at]) => at)).toEqual([])
  })

  it('every test file asserts something', () => {
    const silent = tests.filter(
      ({ file, text }) => file.endsWith('.test.ts') && !/\bexpect\(|\bassert\(|Suite\(|fc\.assert/.test(text),
    )
    expect(silent.map(({ file }) => file)).toEqual([])
  })

  it('no test is switched off or alone', () => {
    expect(places(tests, /\b(it|describe|test)\.(only|todo)\b|\b(it|describe|test)\.skip\(/)).toEqual([])
  })
})
