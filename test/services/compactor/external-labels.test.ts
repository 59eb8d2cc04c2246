// Labels that are added to all series of a sorted stream, without sorting it anew.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { LabelAdder, withExternal } from '../../../services/compactor/import/external-labels.ts'
import { compareLabels, type Labels, labelsFrom, labelsKey } from '../../../shared/model/labels.ts'

const name = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f')
const value = fc.constantFrom('1', '2')
const labelSet = fc.dictionary(name, value, { maxKeys: 5 }).map(labelsFrom)
const external = fc.dictionary(fc.constantFrom('B', 'aa', 'bb', 'cc', 'dd', 'g'), value, { maxKeys: 4 }).map(labelsFrom)

test('EXTERNAL-1: what comes in order goes on in order, all of it, each with the labels added', () => {
  const sets = fc.uniqueArray(labelSet, { selector: labelsKey, maxLength: 60, size: 'max' })
  fc.assert(
    fc.property(sets, external, (all, added) => {
      const inOrder = [...all].sort(compareLabels)
      const out: { labels: Labels; at: number }[] = []
      const adder = LabelAdder.of<{ labels: Labels; at: number }>(added, (series) => out.push(series))
      for (const [at, labels] of inOrder.entries()) adder.add({ labels, at })
      adder.end()
      const wanted = inOrder.map((labels, at) => ({ labels: withExternal(labels, added), at }))
      expect(out).toEqual(wanted.sort((a, b) => compareLabels(a.labels, b.labels)))
    }),
    { numRuns: 500 },
  )
})

test('EXTERNAL-1: no more wait than a series has labels', () => {
  const added = labelsFrom({ zz: '1' })
  let handed = 0
  const adder = LabelAdder.of<{ labels: Labels }>(added, () => handed++)
  for (let i = 0; i < 1000; i++) {
    const labels = ['a', String(i).padStart(4, '0')]
    adder.add({ labels })
    adder.add({ labels: [...labels, 'b', '1'] })
    expect(2 * (i + 1) - handed).toBeLessThanOrEqual(2)
  }
})
