// Files of settings that would not end: an operator's own, still they are refused in words.
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Attack } from './run-attack.ts'

const END_MS_MAX = 20_000
const ROOT = new URL('../..', import.meta.url).pathname

function refused(name: string, flag: string, text: string, code: number): Attack {
  return {
    name: `file: ${name}`,
    async run() {
      const folder = mkdtempSync(join(tmpdir(), 'carillon-attack-'))
      const file = join(folder, 'attack.yaml')
      writeFileSync(file, text)
      const args = ['services/carillon.mjs', 'gateway', flag, file, '--nats', 'nats://127.0.0.1:1']
      const child = spawn(process.execPath, args, { cwd: ROOT, stdio: 'ignore' })
      const late = setTimeout(() => child.kill('SIGKILL'), END_MS_MAX)
      const ended = await new Promise<number | null>((resolve) => child.once('exit', resolve))
      clearTimeout(late)
      rmSync(folder, { recursive: true, force: true })
      return ended === code ? undefined : `ended with ${ended ?? 'a kill'} instead of ${code}`
    },
  }
}

const levels = [...'abcdefghi'].reduce(
  (inner, name, i, all) => (i === 0 ? '&a [x,x,x,x,x,x,x,x]' : `&${name} [${inner}${`,*${all[i - 1]}`.repeat(8)}]`),
  '',
)

export const fileAttacks: readonly Attack[] = [
  refused('an alias that names itself', '--config', 'listen: &a [*a]', 2),
  refused('aliases nine levels deep', '--config', `enable_feature: &j [${levels}]`, 2),
]
