// The deletions that an owner has met in its log, until all that they reach was dropped.
import type { DeletePosition } from '../../shared/contracts/blocks.ts'
import type { AppliedDelete } from '../../shared/contracts/read.ts'
import type { StoredPart } from './frames.ts'

export class HeldDeletions {
  private readonly byId = new Map<string, AppliedDelete>()

  get(id: string): AppliedDelete | undefined {
    return this.byId.get(id)
  }

  /** Takes in one of the log, or one that another owner has met there: its first place counts, and once undone it stays so. Answers how it
   *  stands now, undefined when nothing has changed. */
  learn(deletion: AppliedDelete): AppliedDelete | undefined {
    const { id } = deletion.record
    const known = this.byId.get(id)
    if (known !== undefined && (known.isUndone || !deletion.isUndone)) return undefined
    this.byId.set(id, deletion)
    return deletion
  }

  all(): AppliedDelete[] {
    return [...this.byId.values()]
  }

  drop(upTo: number): void {
    for (const [id, { segment }] of this.byId) if (segment <= upTo) this.byId.delete(id)
  }

  /** Where the records of a tenant's deletions stand, by id: what a flush writes into the manifest (contracts/deletes.ts). */
  of(tenant: string): ReadonlyMap<string, DeletePosition> {
    const own = this.all().filter(({ record }) => record.tenant === tenant)
    return new Map(own.map(({ record, segment, seq }) => [record.id, { segment, seq }]))
  }

  tenantsIn(segment: number): string[] {
    return this.all()
      .filter((each) => each.segment === segment)
      .map(({ record }) => record.tenant)
  }

  /** The parts into which deletions cut a tenant's segment: a flush makes blocks of each of its own, with `cut` as their origin says. */
  partsOf(tenant: string, segment: number): { readonly cut: number | undefined; readonly part: StoredPart }[] {
    const cuts = this.all()
      .filter((each) => each.record.tenant === tenant && each.segment === segment)
      .map(({ seq }) => seq)
      .sort((a, b) => a - b)
    return [undefined, ...cuts].map((cut, i) => {
      const part = { segment, fromSeq: cut ?? 0 }
      return { cut, part: i < cuts.length ? { ...part, toSeq: cuts[i]! } : part }
    })
  }
}
