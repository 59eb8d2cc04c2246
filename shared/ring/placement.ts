// Places partitions on members so that loads come close to targets and everything else stays with the best score: first prices, then
// single moves. Deterministic; used by `owners.ts`.

/** The members of each partition, as numbers. */
export type Placement = readonly (readonly number[])[]

export interface PlacementTask {
  readonly partitionCount: number
  readonly memberCount: number
  /** At partition × memberCount + member. */
  readonly scores: Float64Array
  /** Partitions that each member should get. */
  readonly targets: Float64Array
  /** The members that a partition wants, given what each is worth to it. */
  choose(values: Float64Array, partition: number): number[]
  /** Whether a partition may leave `from` for `to`. */
  mayMove(chosen: readonly number[], from: number, to: number, partition: number): boolean
}

const ROUNDS_MAX = 80
/** Targets are sums of fractions: what differs by less is whole. */
const EPSILON = 1e-6

/** Each member gets its target, rounded up or down, wherever `mayMove` allows that. */
export function evenOut(task: PlacementTask): Placement {
  const { partitionCount, memberCount, scores } = task
  const prices = new Float64Array(memberCount)
  const values = new Float64Array(memberCount)
  let best: Placing | undefined
  let bestMiss = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS_MAX && bestMiss > 0; round++) {
    const placing = new Placing(task)
    for (let partition = 0; partition < partitionCount; partition++) {
      const at = partition * memberCount
      for (let m = 0; m < memberCount; m++) values[m] = scores[at + m]! - prices[m]!
      placing.set(partition, task.choose(values, partition))
    }
    const miss = placing.miss()
    if (miss < bestMiss) {
      best = placing
      bestMiss = miss
      placing.prices.set(prices)
    }
    const step = 1 / (2 + round / 4)
    for (let m = 0; m < memberCount; m++) prices[m]! += (step * placing.excess(m)) / partitionCount
  }
  if (best === undefined) return []
  best.repair()
  return best.chosen
}

class Placing {
  readonly chosen: number[][] = []
  readonly loads: Float64Array
  readonly prices: Float64Array
  private readonly task: PlacementTask
  private readonly least: Float64Array
  private readonly most: Float64Array

  constructor(task: PlacementTask) {
    this.task = task
    this.loads = new Float64Array(task.memberCount)
    this.prices = new Float64Array(task.memberCount)
    this.least = task.targets.map((target) => Math.floor(target + EPSILON))
    this.most = task.targets.map((target) => Math.ceil(target - EPSILON))
  }

  set(partition: number, members: number[]): void {
    this.chosen[partition] = members
    for (const member of members) this.loads[member]!++
  }

  /** How far a load is above its bounds, or below (negative). */
  excess(m: number): number {
    const load = this.loads[m]!
    return load > this.most[m]! ? load - this.most[m]! : Math.min(0, load - this.least[m]!)
  }

  /** How many (partition, member) pairs stand outside the bounds. */
  miss(): number {
    let miss = 0
    for (let m = 0; m < this.loads.length; m++) {
      miss += Math.abs(this.excess(m))
    }
    return miss
  }

  /** Moves single partitions, along the shortest chains, until every load is within its bounds or nothing more can be done. */
  repair(): void {
    const { loads, least, most } = this
    const all = Array.from({ length: loads.length }, (_, m) => m)
    const moveAlong = (from: (m: number) => boolean, to: (m: number) => boolean) => {
      while (all.some(from) && this.moveOne(all.filter(from), to)) {}
    }
    moveAlong(
      (m) => loads[m]! > most[m]!,
      (m) => loads[m]! < least[m]!,
    )
    moveAlong(
      (m) => loads[m]! > most[m]!,
      (m) => loads[m]! < most[m]!,
    )
    moveAlong(
      (m) => loads[m]! > least[m]!,
      (m) => loads[m]! < least[m]!,
    )
  }

  /** Breadth first from all sources: a chain of moves that takes one partition off a source and gives one to a sink. */
  private moveOne(sources: readonly number[], isSink: (member: number) => boolean): boolean {
    const { task, chosen, prices } = this
    const { memberCount, scores } = task
    const cameFrom = new Map<number, { member: number; partition: number } | undefined>()
    for (const source of sources) cameFrom.set(source, undefined)
    for (let level: readonly number[] = sources; level.length > 0; ) {
      const isHere = new Set(level)
      const found = new Map<number, { member: number; partition: number; regret: number }>()
      for (let partition = 0; partition < chosen.length; partition++) {
        for (const member of chosen[partition]!) {
          if (!isHere.has(member)) continue
          const at = partition * memberCount
          for (let to = 0; to < memberCount; to++) {
            if (cameFrom.has(to)) continue
            const regret = scores[at + member]! - prices[member]! - (scores[at + to]! - prices[to]!)
            if (regret >= (found.get(to)?.regret ?? Number.POSITIVE_INFINITY)) continue
            if (task.mayMove(chosen[partition]!, member, to, partition)) found.set(to, { member, partition, regret })
          }
        }
      }
      let sink = -1
      for (const [to, way] of found) {
        cameFrom.set(to, way)
        if (isSink(to) && (sink < 0 || way.regret < found.get(sink)!.regret)) sink = to
      }
      if (sink >= 0) {
        this.apply(cameFrom, sink)
        return true
      }
      level = [...found.keys()]
    }
    return false
  }

  private apply(cameFrom: Map<number, { member: number; partition: number } | undefined>, sink: number): void {
    for (let to = sink, way = cameFrom.get(to); way !== undefined; to = way.member, way = cameFrom.get(to)) {
      const members = this.chosen[way.partition]!
      members[members.indexOf(way.member)] = to
      this.loads[way.member]!--
      this.loads[to]!++
    }
  }
}
