// A process that runs the histories it is told to, one after the other, until nobody tells it any more.
import type { Chunk } from './many.ts'
import { World } from './world.ts'

process.on('message', (chunk: Chunk) => void run(chunk))
process.on('disconnect', () => process.exit(0))

async function run({ seeds, asked }: Chunk): Promise<void> {
  const without = new Set(asked.without)
  for (const seed of seeds) {
    const { faults, counts, digests } = await new World({ ...asked, seed, without }).run().catch((error: unknown) => ({
      faults: [`the history broke off: ${error instanceof Error ? error.stack : String(error)}`],
      ...{ counts: {}, digests: [] },
    }))
    process.send?.({ seed, faults, counts, digests })
  }
}
