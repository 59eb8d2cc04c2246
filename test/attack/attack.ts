// npm run attack [-- --only TEXT] [--rounds N]
// Starts a system on loopback, sends everything of the tables to it, and looks whether a quiet tenant noticed and whether all processes live.
// Exit code 1: something was not as it should be.
import { parseArgs } from 'node:util'
import { startSystem } from '../cluster/system.ts'
import { allAttacks } from './all-attacks.ts'
import { runAttack } from './run-attack.ts'

const { values } = parseArgs({
  options: { only: { type: 'string', default: '' }, rounds: { type: 'string', default: '1' } },
})
const chosen = allAttacks.filter(({ name }) => name.includes(values.only))
const rounds = Array.from({ length: Number(values.rounds) }, () => chosen).flat()
const system = await startSystem()
const { faults, counts } = await runAttack(system, rounds, (text) => console.log(text)).finally(() => system.stop())
console.log(JSON.stringify(counts))
for (const fault of faults) console.log(`FAULT ${fault}`)
process.exit(faults.length === 0 ? 0 : 1)
