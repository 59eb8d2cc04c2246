// Merges in the thread of the caller: for simulations, where all that happens is on one clock.
import { countBlock } from './count-block.ts'
import { importBlock } from './import-block.ts'
import type { Importer } from './import-job.ts'
import { mergeBlocks } from './merge-blocks.ts'
import type { Merger } from './merge-job.ts'

export const inlineMerger: Merger & Importer = { merge: mergeBlocks, count: countBlock, import: importBlock }
