// All of an object in one piece: for small ones.
import type { ObjectCall, ObjectStore } from './port.ts'

/** Undefined where there is none. */
export async function readWhole(
  store: Pick<ObjectStore, 'info' | 'read'>,
  name: string,
  call: ObjectCall,
): Promise<Uint8Array | undefined> {
  const info = await store.info(name, call)
  return info && (await store.read(name, { start: 0, end: info.size }, call))
}
