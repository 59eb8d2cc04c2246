// Label sets cut to some names and numbered: series that agree on them share a number. A hot kernel: no object per series.
import type { StringTable } from '../../../shared/tsdb/head/string-table.ts'

export class LabelSets {
  /** The names' string numbers, those that the table knows, in the order of the texts. */
  private readonly names: Uint32Array
  private readonly values: Uint32Array
  /** For each name, for each node that the values before led to: from the next value to the next node. A node after the last name is
   *  a set. */
  private readonly steps: Map<number, number>[][]
  private readonly nodeCounts: Uint32Array
  private count = 0

  constructor(table: StringTable, names: readonly string[]) {
    this.names = Uint32Array.from(names.map((name) => table.find(name)).filter((number) => number !== undefined))
    this.values = new Uint32Array(this.names.length)
    this.steps = Array.from(this.names, (_, n) => (n === 0 ? [new Map<number, number>()] : []))
    this.nodeCounts = new Uint32Array(this.names.length)
  }

  /** The number of the set of the label run [name#, value#, …] in [from, to). A new one is first told: its pairs, as string numbers. */
  numberOf(run: Uint32Array, from: number, to: number, tell: (pairs: readonly number[]) => void): number {
    const { names, values, steps } = this
    let node = 0
    let at = from // both run and names are in the order of the names
    for (let n = 0; n < names.length; n++) {
      const name = names[n]!
      let value = 0 // 0: absent, else the number + 1
      for (let i = at; i < to; i += 2) {
        if (run[i] !== name) continue
        value = run[i + 1]! + 1
        at = i + 2
        break
      }
      values[n] = value
      const nexts = steps[n]![node]!
      const next = nexts.get(value)
      if (next !== undefined) node = next
      else {
        node = this.nodeCounts[n]!++
        nexts.set(value, node)
        steps[n + 1]?.push(new Map())
      }
    }
    if (node === this.count) {
      this.count++
      tell(this.pairs())
    }
    return node
  }

  private pairs(): number[] {
    const pairs: number[] = []
    for (let n = 0; n < this.names.length; n++)
      if (this.values[n] !== 0) pairs.push(this.names[n]!, this.values[n]! - 1)
    return pairs
  }
}
