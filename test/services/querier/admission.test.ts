import { describe, expect, it } from 'vitest'
import { type Applicant, createAdmission } from '../../../services/querier/limits/admission.ts'

const patient = new AbortController().signal
/** Lets all that is settled go on. */
const settled = () => new Promise<void>((resolve) => setImmediate(resolve))

function ground(bounds: { concurrentMax: number; queuedMax: number }) {
  const admission = createAdmission(bounds)
  const began: string[] = []
  const ends = new Map<string, () => void>()
  const ask = (name: string, who: Applicant, signal = patient): Promise<string> =>
    admission
      .run(who, signal, () => {
        began.push(name)
        return new Promise<string>((resolve) => ends.set(name, () => resolve('done')))
      })
      .catch((error: unknown) => String((error as { code?: string }).code ?? error))
  const end = async (name: string) => {
    ends.get(name)!()
    await settled()
  }
  return { admission, began, ask, end }
}

describe('the queue of queries', () => {
  it('ADMISSION-2: tenants take turns, whatever one of them has queued before', async () => {
    const { admission, began, ask, end } = ground({ concurrentMax: 1, queuedMax: 100 })
    for (let i = 0; i < 20; i++) void ask(`greedy ${i}`, { tenant: 'greedy' })
    void ask('modest 0', { tenant: 'modest' })
    void ask('other 0', { tenant: 'other' })
    void ask('modest 1', { tenant: 'modest' })
    await settled()
    for (let i = 0; i < 7; i++) await end(began.at(-1)!)
    expect(began.map((name) => name.replace('greedy', 'g').replace('modest', 'm').replace('other', 'o'))).toEqual([
      'g 0',
      'g 1',
      'm 0',
      'o 0',
      'g 2',
      'm 1',
      'g 3',
      'g 4',
    ])
    expect([admission.runningCount(), admission.waitingCount()]).toEqual([1, 15])
  })

  it('ADMISSION-1, ADMISSION-3: a tenant at its own bound waits, and leaves free places to others', async () => {
    const { admission, began, ask, end } = ground({ concurrentMax: 3, queuedMax: 10 })
    const bound = { tenant: 'bound', concurrentMax: 1, queuedMax: 1 }
    void ask('b 0', bound)
    void ask('b 1', bound)
    expect(await ask('b 2', bound)).toBe('err-carillon-too-many-queries')
    void ask('free 0', { tenant: 'free' })
    await settled()
    expect(began).toEqual(['b 0', 'free 0'])
    await end('b 0')
    expect(began).toEqual(['b 0', 'free 0', 'b 1'])
    await end('b 1')
    await end('free 0')
    expect([admission.runningCount(), admission.waitingCount()]).toEqual([0, 0])
  })

  it('ADMISSION-3: beyond the bound of all that wait everyone is refused', async () => {
    const { ask } = ground({ concurrentMax: 1, queuedMax: 2 })
    for (const tenant of ['a', 'b', 'c']) void ask(tenant, { tenant })
    expect(await ask('d', { tenant: 'd' })).toBe('err-carillon-too-many-queries')
  })

  it('who leaves the queue is forgotten, and its tenant as well', async () => {
    const { admission, began, ask, end } = ground({ concurrentMax: 1, queuedMax: 10 })
    void ask('a', { tenant: 'a' })
    const leaving = new AbortController()
    const left = ask('b', { tenant: 'b' }, leaving.signal)
    void ask('c', { tenant: 'c' })
    leaving.abort('gone')
    expect(await left).toBe('gone')
    await end('a')
    expect(began).toEqual(['a', 'c'])
    expect(admission.waitingCount()).toBe(0)
  })

  it('no place is lost over many queries of many tenants', async () => {
    const { admission, began, ask, end } = ground({ concurrentMax: 4, queuedMax: 1000 })
    for (let i = 0; i < 300; i++) void ask(`${i}`, { tenant: `t${i % 7}`, concurrentMax: 1 + (i % 3) })
    const ended = new Set<string>()
    for (let i = 0; i < 300; i++) {
      await settled()
      expect(admission.runningCount()).toBe(Math.min(4, 300 - ended.size))
      const next = began.find((name) => !ended.has(name))!
      ended.add(next)
      await end(next)
    }
    expect([admission.runningCount(), admission.waitingCount()]).toEqual([0, 0])
  })
})
