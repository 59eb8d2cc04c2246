// Merges in the thread of the caller: for simulations, where all that happens is on one clock.

import { importBlock } from '../import/import-block.ts'
import { countBlock } from '../merge/count-block.ts'
import { mergeBlocks } from '../merge/merge-blocks.ts'
import type { Importer } from './import-job.ts'
import type { Merger } from './merge-job.ts'

export const inlineMerger: Merger & Importer = { merge: mergeBlocks, count: countBlock, import: importBlock }
