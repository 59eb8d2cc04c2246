import { expect, test } from 'vitest'
import { ConflictError, UnavailableError } from '../../../shared/base/errors.ts'
import { patiently } from '../../../shared/base/patience.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'

const failing = (times: number, error: Error = new UnavailableError('kv-unavailable', 'not yet')) => {
  let count = 0
  return async () => {
    if (count++ < times) throw error
    return count
  }
}

async function run<T>(operation: () => Promise<T>, withinMs: number, mayPass?: (error: UnavailableError) => boolean) {
  const clock = new VirtualClock()
  let isOver = false
  const told: string[] = []
  const onFailure = ({ code }: UnavailableError) => void told.push(code)
  const done = patiently(operation, { clock, withinMs, onFailure, ...(mayPass && { mayPass }) })
  const over = () => {
    isOver = true
  }
  done.then(over, over)
  await clock.run(() => isOver, 60_000)
  return { value: await done, told, tookMs: clock.monotonic() }
}

test('what cannot be done for a while is done again until it can', async () => {
  expect(await run(failing(3), 1_000)).toEqual({
    value: 4,
    told: ['kv-unavailable', 'kv-unavailable', 'kv-unavailable'],
    tookMs: 750,
  })
})

test('when the time is over the last failure is told', async () => {
  await expect(run(failing(9), 1_000)).rejects.toMatchObject({ code: 'kv-unavailable' })
})

test('what will not pass is told at once', async () => {
  await expect(run(failing(1, new ConflictError('kv-conflict', 'another was first')), 1_000)).rejects.toThrow('another')
  await expect(run(failing(1), 1_000, ({ code }) => code !== 'kv-unavailable')).rejects.toThrow('not yet')
})
