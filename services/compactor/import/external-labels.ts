// Labels that a block has as a whole: Thanos keeps those of a Prometheus ("external labels") in meta.json only. They become labels of the series,
// or two clusters would be one. Names that begin with two `_` are about the block (tenant and shard, of Mimir and Cortex) and stay out.
//
// Invariants
//   EXTERNAL-1  Series keep their strict order. A label that all get changes it only between a series and those that it is the beginning of: the longer
//       ones come first where their next label stands before the new one. So a series waits while such follow; as many wait as it has labels.
//   EXTERNAL-2  What has the label already is refused by name: nothing is written over, nothing left out.
import { RefusedError } from '../../../shared/base/errors.ts'
import { echo } from '../../../shared/model/label-rules.ts'
import { compareBytes, formatLabels, type Labels, labelOf, labelsFrom } from '../../../shared/model/labels.ts'

const CODE = 'err-carillon-upload-external-label'

/** Throws RefusedError `err-carillon-upload-external-label`. */
export function externalLabelsOf(metaJson: Uint8Array): Labels {
  const { thanos } = JSON.parse(Buffer.from(metaJson).toString()) as { thanos?: { labels?: unknown } | null }
  const labels = thanos?.labels ?? {}
  const areLabels =
    typeof labels === 'object' &&
    !Array.isArray(labels) &&
    Object.values(labels).every((value) => typeof value === 'string')
  if (!areLabels) throw new RefusedError(CODE, 'thanos.labels in meta.json is no object of names and texts')
  return labelsFrom(Object.entries(labels as Record<string, string>).filter(([name]) => !name.startsWith('__')))
}

/** The labels of a series with those of its block. EXTERNAL-2: throws RefusedError `err-carillon-upload-external-label`. */
export function withExternal(labels: Labels, external: Labels): Labels {
  let all = labels
  for (let i = 0; i < external.length; i += 2) {
    const [name, value] = [external[i]!, external[i + 1]!]
    const own = labelOf(labels, name)
    if (own !== '') {
      const text = `the block has the external label ${name}="${echo(value)}", and ${echo(formatLabels(labels))} has one of that name itself; leave the external one out (carillon blocks upload --drop-external-label ${name}), or rename it in meta.json`
      throw new RefusedError(CODE, text)
    }
    all = inserted(all, name, value)
  }
  return all
}

interface Labelled {
  readonly labels: Labels
}

/** Gives each series the labels, and hands them on in order (EXTERNAL-1). None of them has one of these already. */
export class LabelAdder<S extends Labelled> {
  private readonly name: string
  private readonly value: string
  private readonly hand: (series: S) => void
  private readonly waiting: S[] = []

  private constructor(name: string, value: string, hand: (series: S) => void) {
    this.name = name
    this.value = value
    this.hand = hand
  }

  /** One behind the other: each adds a label to what the one before hands on. */
  static of<S extends Labelled>(external: Labels, hand: (series: S) => void): { add(series: S): void; end(): void } {
    let next: { add(series: S): void; end(): void } = { add: hand, end: () => {} }
    for (let i = external.length - 2; i >= 0; i -= 2) {
      const after = next
      const adder = new LabelAdder<S>(external[i]!, external[i + 1]!, (series) => after.add(series))
      next = {
        add: (series) => adder.add(series),
        end: () => {
          adder.handOn(0)
          after.end()
        },
      }
    }
    return next
  }

  private add(series: S): void {
    let left = this.waiting.length
    while (left > 0 && !this.comesFirst(series.labels, this.waiting[left - 1]!.labels)) left--
    this.handOn(left)
    this.waiting.push(series)
  }

  /** Hands on those that wait, the last first, until so many are left. */
  private handOn(left: number): void {
    while (this.waiting.length > left) {
      const series = this.waiting.pop()!
      this.hand({ ...series, labels: inserted(series.labels, this.name, this.value) })
    }
  }

  /** Whether `longer` begins with `labels` and goes on with a label before the new one. */
  private comesFirst(longer: Labels, labels: Labels): boolean {
    if (longer.length <= labels.length || compareBytes(longer[labels.length]!, this.name) > 0) return false
    return labels.every((text, i) => text === longer[i])
  }
}

function inserted(labels: Labels, name: string, value: string): Labels {
  let at = 0
  while (at < labels.length && compareBytes(labels[at]!, name) < 0) at += 2
  return [...labels.slice(0, at), name, value, ...labels.slice(at)]
}
