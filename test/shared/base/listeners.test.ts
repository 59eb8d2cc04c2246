import { expect, test } from 'vitest'
import { Listeners } from '../../../shared/base/listeners.ts'

test('whoever listens hears each news until it stops, and one that listens twice is told twice', () => {
  const listeners = new Listeners<number>()
  const heard: string[] = []
  const twice = (news: number) => void heard.push(`twice ${news}`)
  const [first, second] = [listeners.add(twice), listeners.add(twice)]
  const once = listeners.add((news) => {
    heard.push(`once ${news}`)
    once.stop()
  })
  listeners.tell(1)
  first.stop()
  first.stop()
  listeners.tell(2)
  second.stop()
  listeners.tell(3)
  expect(heard).toEqual(['twice 1', 'twice 1', 'once 1', 'twice 2'])
})

test('one that is stopped by another while news are told does not hear them', () => {
  const listeners = new Listeners<void>()
  let count = 0
  listeners.add(() => later.stop())
  const later = listeners.add(() => void count++)
  listeners.tell()
  expect(count).toBe(0)
})
