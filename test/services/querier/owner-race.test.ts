import { describe, expect, it, vi } from 'vitest'
import { type Attempt, firstAnswer, type RaceOptions } from '../../../services/querier/read/hedged-request.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { RefusedError, UnavailableError } from '../../../shared/base/errors.ts'

const asker = new AbortController()
const base: RaceOptions = {
  clock: systemClock,
  hedgeAfterMs: 10,
  silenceMaxMs: 10_000,
  signal: asker.signal,
  onFailure: () => {},
  onHedge: () => {},
}

/** Resolves after a while, or rejects when aborted. */
function after<T>(ms: number, signal: AbortSignal, value: () => T): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      try {
        resolve(value())
      } catch (error) {
        reject(error)
      }
    }, ms)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      reject(new Error('aborted'))
    })
  })
}

const down = () => {
  throw new UnavailableError('bus-no-responders', 'nobody')
}

describe('firstAnswer', () => {
  it('QUERY-3: an owner set aside for a faster one is asked again when that one fails', async () => {
    const asked: string[] = []
    const attempt: Attempt<string> = (owner, signal, onFirst) => {
      asked.push(owner)
      if (owner === 'fast') {
        onFirst()
        return after(5, signal, down)
      }
      return after(asked.length > 2 ? 1 : 10_000, signal, () => owner)
    }
    expect(await firstAnswer(['slow', 'fast'], attempt, base)).toBe('slow')
    expect(asked).toEqual(['slow', 'fast', 'slow'])
  })

  it('QUERY-2: every other attempt is aborted when one has answered', async () => {
    const aborted = vi.fn()
    const attempt: Attempt<string> = (owner, signal) => {
      signal.addEventListener('abort', () => aborted(owner))
      return after(owner === 'b' ? 1 : 10_000, signal, () => owner)
    }
    expect(await firstAnswer(['a', 'b', 'c'], attempt, base)).toBe('b')
    expect(aborted.mock.calls.flat()).toContain('a')
  })

  it('a refusal that is not the owner\u2019s fault is final', async () => {
    const asked: string[] = []
    const attempt: Attempt<string> = async (owner) => {
      asked.push(owner)
      throw new RefusedError('err-carillon-query-series', 'too many', { status: 422 })
    }
    await expect(firstAnswer(['a', 'b'], attempt, base)).rejects.toMatchObject({ status: 422 })
    expect(asked).toEqual(['a'])
  })

  it('an owner that says nothing for too long counts as failed', async () => {
    const attempt: Attempt<string> = (owner, signal) => after(10_000, signal, () => owner)
    const started = Date.now()
    const all = firstAnswer(['a', 'b'], attempt, { ...base, silenceMaxMs: 30 })
    await expect(all).rejects.toMatchObject({ message: 'a: said nothing for 30 ms; b: said nothing for 30 ms' })
    expect(Date.now() - started).toBeLessThan(2_000)
  })

  it('an owner that has begun may take its time', async () => {
    const attempt: Attempt<string> = (owner, signal, onFirst) => {
      onFirst()
      return after(60, signal, () => owner)
    }
    expect(await firstAnswer(['a', 'b'], attempt, { ...base, silenceMaxMs: 20 })).toBe('a')
  })

  it('without owners it says so', async () => {
    await expect(firstAnswer([], async () => '', base)).rejects.toThrow('no ingester is alive')
  })
})
