// The collector, called by hand: also where the process was started without --expose-gc, so that a history is judged alike everywhere.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')

/** Afterwards a WeakRef that was not looked at since the last turn tells whether what it means can be reached. */
export const collectGarbage = runInNewContext('gc') as () => void
