// A part of `npm run attack`: a quiet tenant notices nothing of what is sent to a system, and no process ends or grows.
import { expect, test } from 'vitest'
import { afterwards, cleanUpAfterEach, isSkipped } from '../cluster/fault-ground.ts'
import { findNatsServer } from '../cluster/nats-server.ts'
import { startSystem } from '../cluster/system.ts'
import { allAttacks } from './all-attacks.ts'
import { runAttack } from './run-attack.ts'

cleanUpAfterEach()
const found = findNatsServer()
/** All of the kind take seconds each. */
const LONG = /^(?:slow: (?!headers)|file: )/

test.skipIf(isSkipped)(
  'ATTACK-1 to ATTACK-3: what attackers send is answered as it should be, and a quiet tenant notices nothing',
  async () => {
    const env: Record<string, string> = 'path' in found ? { CARILLON_NATS_SERVER: found.path } : {}
    const system = await startSystem({ env })
    afterwards(() => system.stop())
    const attacks = allAttacks.filter(({ name }) => !LONG.test(name))
    const { faults, counts } = await runAttack(system, attacks, () => {})
    console.log(JSON.stringify(counts))
    expect(faults).toEqual([])
    expect(counts.written).toBeGreaterThan(10)
  },
  180_000,
)
