// Objects in a folder pass the suite of every object store.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { systemClock } from '../../../shared/base/clock.ts'
import { directoryObjects } from '../../../shared/objects/directory-objects.ts'
import { objectsSuite } from '../../suites/objects-suite.ts'

objectsSuite('objects in a folder', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'carillon-objects-'))
  return {
    connect: () => directoryObjects(folder, { clock: systemClock }),
    async damage(name) {
      const file = path.join(folder, `${name}@`)
      const bytes = readFileSync(file)
      bytes[10] = (bytes[10] ?? 0) ^ 4
      writeFileSync(file, bytes)
    },
    async close() {
      rmSync(folder, { recursive: true })
    },
  }
})
