// What this process takes of the machine's memory, and a way to give back what nobody uses any more.
import os from 'node:os'
import v8 from 'node:v8'
import vm from 'node:vm'

export interface ProcessMemory {
  /** Bytes that the machine has, or that its container may have. */
  readonly machineBytes: number
  /** Bytes that are resident. */
  rss(): number
  /** Bytes of V8's heap and of the buffers that objects on it own, garbage included. */
  held(): number
  /** How much of the heap that V8 allows is used: where it is all, the process ends. */
  heapShare(): number
  /** Frees all garbage, at once; nothing else runs meanwhile. */
  collect(): void
}

export function processMemory(): ProcessMemory {
  v8.setFlagsFromString('--expose-gc') // seen by contexts made from now on
  const collect: unknown = vm.runInNewContext('gc')
  if (typeof collect !== 'function') throw new TypeError('this Node has no garbage collection that can be asked for')
  const constrained = process.constrainedMemory()
  return {
    machineBytes: Math.min(os.totalmem(), constrained > 0 ? constrained : Number.POSITIVE_INFINITY),
    rss: () => process.memoryUsage.rss(),
    held() {
      const { heapTotal, external } = process.memoryUsage()
      return heapTotal + external
    },
    heapShare() {
      const { used_heap_size, heap_size_limit } = v8.getHeapStatistics()
      return used_heap_size / heap_size_limit
    },
    collect: () => void collect({ type: 'major', execution: 'sync' }),
  }
}
