// The settings tables as text: for --help, and for the documentation.
import { envName, fileKey, flagName, type SettingsTable } from './settings.ts'

export interface SettingsSection {
  readonly title: string
  readonly table: SettingsTable
}

export interface HelpParts {
  readonly usage: string
  readonly intro: string
  readonly sections: readonly SettingsSection[]
  /** Paragraphs after the settings, e.g. the exit codes. */
  readonly after?: string
}

const columnWidth = 100

export function helpText({ usage, intro, sections, after }: HelpParts): string {
  const parts = [`Usage: ${usage}`, intro]
  for (const { title, table } of withoutRepeats(sections)) {
    const lines = Object.entries(table).flatMap(([key, setting]) => {
      const name = flagName(key, setting)
      const shown = setting.show(setting.default)
      const placeholder = setting.kind === 'flag' ? '' : ` <${setting.kind}>`
      const initial = shown === '' || setting.kind === 'flag' ? '' : ` (default ${shown})`
      return [
        `  --${name}${placeholder}${initial}`,
        ...wrap(setting.doc, columnWidth - 6).map((line) => `      ${line}`),
      ]
    })
    parts.push([`${title}:`, ...lines].join('\n'))
  }
  parts.push(
    'Every flag --some-name is also the variable CARILLON_SOME_NAME and the key some_name in the YAML or JSON file\n' +
      'given by --config FILE. A flag beats the variable, which beats the file.',
  )
  if (after !== undefined) parts.push(after)
  return `${parts.join('\n\n')}\n`
}

/** Markdown: one table per section. */
export function settingsMarkdown(sections: readonly SettingsSection[]): string {
  return withoutRepeats(sections)
    .map(({ title, table }) => {
      const rows = Object.entries(table).map(([key, setting]) => {
        const name = flagName(key, setting)
        const shown = setting.show(setting.default)
        const cells = [
          `\`--${name}\``,
          `\`${envName(name)}\``,
          `\`${fileKey(name)}\``,
          shown === '' ? '' : `\`${shown}\``,
        ]
        return `| ${[...cells, `${setting.doc.replaceAll('|', '\\|')} (${setting.wants.replaceAll('|', '\\|')})`].join(' | ')} |`
      })
      return [
        `## ${title}`,
        '',
        '| flag | variable | file key | default | what it does |',
        '|---|---|---|---|---|',
        ...rows,
      ].join('\n')
    })
    .join('\n\n')
}

/** A setting that several tables share is told once, where it stands first. */
function withoutRepeats(sections: readonly SettingsSection[]): SettingsSection[] {
  const told = new Set<string>()
  return sections.map(({ title, table }) => {
    const fresh = Object.entries(table).filter(([key, setting]) => !told.has(flagName(key, setting)))
    for (const [key, setting] of fresh) told.add(flagName(key, setting))
    return { title, table: Object.fromEntries(fresh) }
  })
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + word.length + 1 > width) {
      lines.push(line)
      line = ''
    }
    line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}
