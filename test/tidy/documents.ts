// Writes the documents that are made from the code, or checks that they are up to date:
//   carillon run test/tidy/documents.ts [--verify]
import fs from 'node:fs'
import path from 'node:path'
import { errorsDocument } from './errors-document.ts'
import { metricsDocument } from './metrics-document.ts'
import { settingsDocument } from './settings-document.ts'
import { root } from './sources.ts'
import { subjectsDocument } from './subjects-document.ts'

const documents: Readonly<Record<string, () => Promise<string>>> = {
  'docs/errors.md': errorsDocument,
  'docs/metrics.md': metricsDocument,
  'docs/settings.md': settingsDocument,
  'docs/subjects.md': subjectsDocument,
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
