// What this process takes of the machine's memory, and a way to give back what nobody uses any more.
import v8 from 'node:v8'
import vm from 'node:vm'

export interface ProcessMemory {
  /** Bytes that are resident. */
  rss(): number
  /** Bytes of V8's heap and of the buffers that objects on it own, garbage included. */
  held(): number
  /** Frees all garbage, at once; nothing else runs meanwhile. */
  collect(): void
}

export function processMemory(): ProcessMemory {
  v8.setFlagsFromString('--expose-gc') // seen by contexts made from now on
  const collect: unknown = vm.runInNewContext('gc')
  if (typeof collect !== 'function') throw new TypeError('this Node has no garbage collection that can be asked for')
  return {
    rss: () => process.memoryUsage.rss(),
    held() {
      const { heapTotal, external } = process.memoryUsage()
      return heapTotal + external
    },
    collect: () => void collect({ type: 'major', execution: 'sync' }),
  }
}
