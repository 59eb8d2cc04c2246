// The object store of a history: slow, now and then away, and sometimes worse.
import { CorruptError, UnavailableError } from '../../shared/base/errors.ts'
import { memoryObjects } from '../../shared/objects/memory-objects.ts'
import type { ObjectStore } from '../../shared/objects/port.ts'
import type { Scene } from './scene.ts'

const AWAY_CHANCE = 0.05
const SLOW_MS_MAX = 15
const ANSWER_LOST_CHANCE = 0.08
const STORED_WRONG_CHANCE = 0.04
const READ_WRONG_CHANCE = 0.02

export function faultyObjects(scene: Scene): ObjectStore {
  const { plan } = scene
  const chance = plan.random('objects')
  const isNow = (probability: number) => scene.isChaos() && chance.next() < probability
  const store = memoryObjects({
    clock: scene.clock,
    async before() {
      if (!plan.has('objects') || !scene.isChaos()) return
      await scene.sleep(chance.below(SLOW_MS_MAX))
      if (isNow(AWAY_CHANCE)) throw new UnavailableError('objects-unavailable', 'the object store is away')
    },
  })
  return {
    ...store,
    async create(name, bytes, call) {
      if (plan.has('object-damage') && call.readBack === true && isNow(STORED_WRONG_CHANCE)) {
        await store.create(name, bytes, { ...call, readBack: false })
        scene.trace(`object ${name} is stored with a wrong byte`)
        store.damage(name)
      }
      const info = await store.create(name, bytes, call)
      if (plan.has('object-answers') && isNow(ANSWER_LOST_CHANCE))
        throw new UnavailableError('objects-timeout', `${name} stands, and the answer is lost`)
      return info
    },
    async read(name, range, call) {
      if (plan.has('object-misread') && isNow(READ_WRONG_CHANCE))
        throw new CorruptError('object-damaged', `${name}: a wrong byte was read`)
      return store.read(name, range, call)
    },
  }
}
