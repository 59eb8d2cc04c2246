// A compare-and-set lost: it stays inside, and whoever began the work reads again and decides. See ../error-codes.ts.
import type { CodeMeaning } from './meaning.ts'

export const conflictCodes = {
  'compaction-overtaken': {
    meaning: 'Another compactor did the same step first.',
    remedy: 'Nobody has to act.',
  },
  'compactor-stopping': {
    meaning: 'The compactor stops in the middle of a step.',
    remedy: 'Nobody has to act: the next one does the step.',
  },
  'flushed-elsewhere': {
    meaning: 'Another owner has flushed this segment.',
    remedy: 'Nobody has to act.',
  },
  'kv-conflict': {
    meaning: 'A record was changed by another process.',
    remedy: 'Nobody has to act: it is read again.',
  },
  'kv-storm': {
    meaning: 'A record was changed by others at every attempt.',
    remedy: 'Nobody has to act; if it lasts, look for many processes that write the same record.',
  },
  'lease-lost': {
    meaning: 'The compactor lost its lease of a tenant.',
    remedy: 'Nobody has to act: the holder of the lease goes on.',
  },
  'log-conflict': {
    meaning: 'Another process wrote to this subject of the log first.',
    remedy: 'Nobody has to act: it is read again.',
  },
  'manifest-fenced': {
    meaning: 'A later holder of the lease has written the manifest.',
    remedy: 'Nobody has to act: that one goes on.',
  },
  'manifest-storm': {
    meaning: 'A manifest was changed by others at every attempt.',
    remedy: 'Nobody has to act: it is tried again.',
  },
  'object-exists': {
    meaning: 'An object with this name and other bytes exists.',
    remedy: 'The operator reports it: names of objects are never used twice.',
  },
} as const satisfies Readonly<Record<string, CodeMeaning>>
