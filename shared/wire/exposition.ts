// The text format 0.0.4: many actors' pages as one valid page, so that one scrape of the gateway shows every process.
//
// Invariants
//   EXPOSITION-1  Each family appears once: one HELP, one TYPE, then the samples of all pages in the order of the pages.
//   EXPOSITION-2  The added labels win: a label of the same name that the sample had is kept as `exported_<name>`, as Prometheus does.
//   EXPOSITION-3  A page that is not valid costs only its own broken lines; how many were left out stands in a comment at the end.

export interface ExpositionPage {
  /** Added to every sample of the page. */
  readonly labels: Readonly<Record<string, string>>
  readonly text: string
}

interface Family {
  help: string | undefined
  type: string | undefined
  readonly samples: string[]
}

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?[ \t]+(\S+(?:[ \t]+-?\d+)?)[ \t]*$/
const LABEL = /[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*")[ \t]*(,|$)/y
const HEAD = /^#[ \t]+(HELP|TYPE)[ \t]+([a-zA-Z_:][a-zA-Z0-9_:]*)(?:[ \t]+(.*))?$/
const SUFFIX = /^(?:_bucket|_sum|_count|_created)$/

/** One page from many. */
export function mergeExpositions(pages: readonly ExpositionPage[]): string {
  const families = new Map<string, Family>()
  let brokenCount = 0
  for (const page of pages) brokenCount += addPage(families, page)
  const lines: string[] = []
  for (const [name, { help, type, samples }] of families) {
    if (help !== undefined) lines.push(`# HELP ${name} ${help}`)
    if (type !== undefined) lines.push(`# TYPE ${name} ${type}`)
    for (const sample of samples) lines.push(sample)
  }
  if (brokenCount > 0) lines.push(`# ${brokenCount} lines were not understood and left out`)
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`
}

/** Sorts the lines of a page into families and returns how many were not understood. */
function addPage(families: Map<string, Family>, { labels, text }: ExpositionPage): number {
  let current: string | undefined
  let brokenCount = 0
  for (const line of text.split('\n')) {
    if (line.startsWith('#')) {
      const head = HEAD.exec(line)
      if (!head) continue // a comment
      current = head[2]!
      const family = familyOf(families, current)
      if (head[1] === 'HELP') family.help ??= head[3] ?? ''
      else family.type ??= head[3]?.trim() ?? 'untyped'
      continue
    }
    if (line.trim() === '') continue
    const sample = SAMPLE.exec(line.trim())
    const own = sample && parseLabels(sample[2] ?? '')
    if (!sample || !own) {
      brokenCount++
      continue
    }
    const name = sample[1]!
    const isOfCurrent = current !== undefined && isMember(name, current)
    const family = familyOf(families, isOfCurrent ? current! : name)
    family.samples.push(`${name}${formatLabels(labels, own)} ${sample[3]}`)
  }
  return brokenCount
}

function familyOf(families: Map<string, Family>, name: string): Family {
  let family = families.get(name)
  if (!family) {
    family = { help: undefined, type: undefined, samples: [] }
    families.set(name, family)
  }
  return family
}

function isMember(sample: string, family: string): boolean {
  return sample === family || (sample.startsWith(family) && SUFFIX.test(sample.slice(family.length)))
}

/** Names with their values as written, quotes and escapes included; undefined when that is not a list of labels. */
function parseLabels(text: string): [name: string, quoted: string][] | undefined {
  const labels: [string, string][] = []
  LABEL.lastIndex = 0
  while (LABEL.lastIndex < text.length) {
    const label = LABEL.exec(text)
    if (!label) return undefined // exec has put lastIndex back to 0
    labels.push([label[1]!, label[2]!])
  }
  return labels
}

function formatLabels(added: Readonly<Record<string, string>>, own: readonly [string, string][]): string {
  const parts = Object.entries(added).map(([name, value]) => `${name}=${quote(value)}`)
  for (const [name, quoted] of own) parts.push(`${Object.hasOwn(added, name) ? `exported_${name}` : name}=${quoted}`)
  return parts.length === 0 ? '' : `{${parts.join(',')}}`
}

function quote(value: string): string {
  return `"${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`
}
