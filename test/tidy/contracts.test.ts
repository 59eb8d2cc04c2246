// Each contract is served by whom it names, and asked by those it names: as far as imports and the tables of the actors tell.
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { root, type Source, sourcesIn } from './sources.ts'
import { isContract } from './subjects-document.ts'

const sources = sourcesIn(['shared', 'services'], /\.ts$/)
const contracts = sources.filter(({ file }) => file.startsWith('shared/contracts/'))

/** Whom code outside the rooms of the actors speaks for. */
const speakers: Readonly<Record<string, string>> = {
  'services/launcher/actor-process.ts': 'member',
  'services/launcher': 'command',
  'services/cli': 'command',
  'services/main.ts': 'command',
  'shared/membership/member-actor.ts': 'member',
  'shared/membership/claim.ts': 'member',
}

interface Use {
  /** `file#name` of the contract. */
  readonly contract: string
  readonly isServing: boolean
}

describe('contracts', async () => {
  const named = new Map<string, { servedBy: string; askedBy: readonly string[] }>()
  for (const { file } of contracts) {
    const exported = (await import(path.join(root, file))) as Record<string, unknown>
    for (const [name, value] of Object.entries(exported)) if (isContract(value)) named.set(`${file}#${name}`, value)
  }
  const homes = new Map([...named.keys()].map((key) => [key, key]))
  for (const source of sources) for (const [at, key] of derivedIn(source, homes)) homes.set(at, key)
  const served = new Map<string, Set<string>>()
  const asked = new Map<string, Set<string>>()
  for (const source of sources.filter((each) => !contracts.includes(each))) {
    for (const { contract, isServing } of usesIn(source, homes)) {
      const table = isServing ? served : asked
      const who = table.get(contract) ?? new Set()
      for (const speaker of speakersOf(source.file)) who.add(speaker)
      table.set(contract, who)
    }
  }

  it('there are some, in every file that has one', () => {
    expect(named.size).toBeGreaterThan(30)
  })

  it.each([...named])('%s is served by whom it names', (contract, { servedBy }) => {
    expect([...(served.get(contract) ?? [])]).toEqual([servedBy])
  })

  it.each([...named])('%s is asked by those it names', (contract, { askedBy }) => {
    const found = [...(asked.get(contract) ?? [])].sort()
    expect(found).toEqual(askedBy.filter((who) => who !== 'outside').sort())
  })
})

/** Every place of a file where a contract is given to something: to `serve`, `serveStream` or `hear`, or to anything else, which is asking. To
 *  look at a property of it (`push.timeoutMs`) is neither. */
function usesIn({ file, text }: Source, homes: ReadonlyMap<string, string>): Use[] {
  const uses: Use[] = []
  const body = text
    .replace(/^import [^;]*? from '[^']+'$/gm, '')
    .replace(/\/\/.*|\/\*[\s\S]*?\*\/|`[^`]*`|'[^'\n]*'/g, '') // comments and texts
  for (const [local, contract] of localNames(file, text, homes)) {
    const places = new RegExp(`(?<![\\w.'"\`$-])${local.replace('.', '\\.')}(?![\\w'"\`:-])(?!\\??\\.)`, 'g')
    for (const { index } of body.matchAll(places)) {
      const before = body.slice(0, index)
      if (isArgument(before)) uses.push({ contract, isServing: /\b(serve|serveStream|hear)\(\s*$/.test(before) })
    }
  }
  return uses
}

/** Whether what comes next stands in the brackets of a call. */
function isArgument(before: string): boolean {
  let depth = 0
  for (let at = before.length - 1; at >= 0; at--) {
    const letter = before[at]!
    if (')]}'.includes(letter)) depth++
    else if ('([{'.includes(letter) && depth-- === 0) return letter === '('
  }
  return false
}

/** `export const other = { ...contract, … }`: the same contract, read in another way. */
function derivedIn({ file, text }: Source, homes: ReadonlyMap<string, string>): [string, string][] {
  const locals = localNames(file, text, homes)
  return [...text.matchAll(/^export const (\w+) = \{ \.\.\.(\w+),/gm)].flatMap(
    ([, name, from = '']): [string, string][] => {
      const key = locals.get(from)
      return key === undefined ? [] : [[`${file}#${name}`, key]]
    },
  )
}

/** The names that contracts have in a file, where they are more than types. */
function localNames(file: string, text: string, homes: ReadonlyMap<string, string>): Map<string, string> {
  const names = new Map<string, string>()
  for (const [, isType, what = '', from = ''] of text.matchAll(/^import (type )?([^;]*?) from '([^']+)'$/gm)) {
    if (isType !== undefined) continue
    const target = path.posix.join(path.posix.dirname(file), from)
    const space = /^\* as (\w+)$/.exec(what)?.[1]
    if (space !== undefined) {
      for (const [at, key] of homes) {
        const [home, name] = at.split('#')
        if (home === target) names.set(`${space}.${name}`, key)
      }
      continue
    }
    for (const item of what.replace(/[{}]/g, '').split(',')) {
      const [name = '', local = name] = item.trim().split(/ as /)
      const key = homes.get(`${target}#${name}`)
      if (key !== undefined) names.set(local, key)
    }
  }
  return names
}

/** A role for its room; for a shared file those that import it. */
function speakersOf(file: string): string[] {
  const known = speakers[file] ?? speakers[path.posix.dirname(file)]
  if (known !== undefined) return [known]
  const [top, room = ''] = file.split('/')
  if (top === 'services') return [room]
  return sources.filter(({ imports }) => imports.includes(file)).flatMap((source) => speakersOf(source.file))
}
