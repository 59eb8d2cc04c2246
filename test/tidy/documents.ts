// Writes the documents that are made from the code, or checks that they are up to date:
//   carillon run test/tidy/documents.ts [--verify]
import fs from 'node:fs'
import path from 'node:path'
import { settingsSections } from '../../services/main.ts'
import { type SettingsSection, settingsMarkdown } from '../../shared/config/help.ts'
import { filesIn, root, sourcesIn } from './sources.ts'

const documents: Readonly<Record<string, () => string | Promise<string>>> = {
  'docs/metrics.md': metrics,
  'docs/settings.md': settings,
  'docs/subjects.md': subjects,
}

let stale = 0
for (const [file, make] of Object.entries(documents)) {
  const wanted = `<!-- Made by test/tidy/documents.ts: edit the code, then run it again. -->\n\n${await make()}\n`
  const absolute = path.join(root, file)
  const present = fs.existsSync(absolute) ? fs.readFileSync(absolute, 'utf8') : ''
  if (present === wanted) continue
  if (process.argv.includes('--verify')) {
    console.error(`${file} is not what the code says; run: node services/carillon.mjs run test/tidy/documents.ts`)
    stale += 1
  } else fs.writeFileSync(absolute, wanted)
}
process.exitCode = stale === 0 ? 0 : 1

async function settings(): Promise<string> {
  const sections: readonly SettingsSection[] = await settingsSections()
  return `# Settings\n\nEvery setting is a flag, an environment variable and a key of the YAML or JSON file given by \`--config FILE\`.
A flag beats the variable, which beats the file, which beats the default. Durations are written \`5ms\`, \`1m30s\`;
sizes \`256KiB\`, \`8MB\`; lists with commas.\n\n${settingsMarkdown(sections)}`
}

/** Every metric that the code makes, by name, kind and help where it is made. */
function metrics(): string {
  const rows = sourcesIn(['services', 'shared'], /\.ts$/).flatMap(({ file, text }) => {
    const room = file.split('/').slice(0, 2).join('/')
    const made = text.matchAll(/\b(counter|gauge|gaugeOf|histogram)\(\s*'(carillon_\w+)',\s*'((?:[^'\\]|\\.)*)'/g)
    const written = text.matchAll(/# HELP (carillon_\w+) ([^'"`\\\n]+)/g)
    return [
      ...[...made].map(
        ([, kind = '', name, help]) => `| \`${name}\` | ${kind.replace('Of', '')} | ${help} | ${room} |`,
      ),
      ...[...written].map(([, name, help]) => `| \`${name}\` | gauge | ${help} | ${room} |`),
    ]
  })
  return `# Metrics

One scrape of a gateway's \`/metrics\` shows every actor, each metric with the labels \`role\` and \`id\` of the actor it comes from.
These names are a promise: they change only with a note in the changelog. Beside them stand the usual \`process_*\` and
\`nodejs_*\` metrics of each process.

| name | kind | what it counts | where |
|---|---|---|---|
${rows.sort().join('\n')}`
}

/** Every contract of shared/contracts, by what it looks like: a kind and a subject template. */
async function subjects(): Promise<string> {
  const rows: string[] = []
  for (const file of filesIn('shared/contracts').filter((name) => name.endsWith('.ts'))) {
    const exported = (await import(path.join(root, file))) as Record<string, unknown>
    for (const value of Object.values(exported)) {
      if (isContract(value))
        rows.push(`| \`cln.${value.subject}\` | ${value.kind} | ${value.name} | ${value.doc.replaceAll('|', '\\|')} |`)
    }
  }
  return `# Subjects\n\nEvery subject that actors speak on, \`cln\` being the prefix unless \`--prefix\` says otherwise.\n
| subject | kind | contract | what it is for |\n|---|---|---|---|\n${rows.sort().join('\n')}`
}

interface ContractLike {
  readonly kind: string
  readonly subject: string
  readonly name: string
  readonly doc: string
}

function isContract(value: unknown): value is ContractLike {
  if (typeof value !== 'object' || value === null) return false
  return ['kind', 'subject', 'name', 'doc'].every((key) => typeof Reflect.get(value, key) === 'string')
}
