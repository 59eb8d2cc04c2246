// Documents for people can be read: lines fit a screen, links lead to headings that are there, and files that are named exist.
import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { filesIn, readSource, root, type Source, sourcesIn } from './sources.ts'

const columnsMax = 100
/** Tables of measurements, and a page that is still as it was first written. The list gets shorter only. */
const wide = ['docs/bench.md', 'docs/internals/what-goes.md']

const top = ['ARCHITECTURE.md', 'CONTRIBUTING.md', 'README.md', 'SECURITY.md', 'test/README.md']
const pages = [...sourcesIn(['docs'], /^docs\/((operations|internals)\/)?[\w-]+\.md$/), ...top.map(readSource)]
/** Those that are made from the code are as wide as it says. */
const written = pages.filter(({ text }) => !text.startsWith('<!-- Made by '))
const files = ['services', 'shared'].flatMap(filesIn)

describe('documents', () => {
  it(`lines have at most ${columnsMax} columns`, () => {
    const long = written.filter(({ lines }) => lines.some((line) => [...line].length > columnsMax))
    expect(long.map(({ file }) => file).filter((file) => !wide.includes(file))).toEqual([])
    expect(wide.filter((file) => !long.some((page) => page.file === file))).toEqual([])
  })

  it('a link to a heading leads to one', () => {
    const wrong = pages.flatMap((page) => headingsMeant(page).filter((link) => !leads(page, link)))
    expect(wrong).toEqual([])
  })

  it('a file that is named by its room, such as `bus/port.ts`, is there', () => {
    const wrong = pages
      .filter(({ file }) => file.startsWith('docs/internals/'))
      .flatMap(({ file, text }) =>
        [...text.matchAll(/`(\w+)\/([\w-]+\.ts)`/g)]
          .filter(([, room, name]) => !files.some((at) => at.split('/')[1] === room && at.endsWith(`/${name}`)))
          .map(([, room, name]) => `${file}: ${room}/${name}`),
      )
    expect(wrong).toEqual([])
  })

  it('the first page names the two commands, and where to go for everything else', () => {
    const { text } = readSource('README.md')
    expect(text).toMatch(/^```sh\nnpm start .*\nnpm test .*\n```$/m)
    for (const { file } of written) if (/^docs\/[\w-]+\.md$/.test(file)) expect(text, file).toContain(`](${file})`)
  })
})

function headingsMeant({ text }: Source): string[] {
  return [...text.matchAll(/\]\((?!\w+:)([^)\s]*#[^)\s]+)\)/g)].map(([, link = '']) => link)
}

function leads({ file }: Source, link: string): boolean {
  const [at = '', heading] = link.split('#')
  const target = at === '' ? file : path.join(path.dirname(file), at)
  const text = fs.readFileSync(path.join(root, target), 'utf8')
  return [...text.matchAll(/^#+ (.*)$/gm)].some(([, title = '']) => anchorOf(title) === heading)
}

/** As GitHub makes it. */
function anchorOf(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')
}
