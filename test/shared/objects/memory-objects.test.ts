// Objects in memory pass the suite of every object store.
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import { objectsSuite } from '../../suites/objects-suite.ts'

objectsSuite('memory objects', async () => {
  const store = memoryObjects()
  return { connect: async () => store, damage: async (name) => store.damage(name), close: async () => {} }
})
