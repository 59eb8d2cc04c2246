// Disks in files, for tests: an image with a file system, mounted; what the disk holds at one moment is a copy of the image.
// Needs root and loop devices; `whyNoLoopDevices` says what lacks.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterwards } from './fault-ground.ts'

const MOUNTS_MAX = 20

export function makeImage(megabytes: number): string {
  const dir = mkdtempSync(join(tmpdir(), 'carillon-disk-'))
  afterwards(() => rmSync(dir, { recursive: true, force: true }))
  const image = join(dir, 'image')
  writeFileSync(image, '')
  truncateSync(image, megabytes * 1024 * 1024)
  run('mkfs.ext4', ['-q', '-F', '-m', '0', image])
  return image
}

export function mounted(image: string, dir = `${image}.mnt`): string {
  mkdirSync(dir, { recursive: true })
  mount(image, dir)
  afterwards(() => unmounted(dir))
  return dir
}

/** So that the file system itself writes nothing to the disk for five minutes, unless told to. */
export function mount(image: string, dir: string): void {
  for (let attempt = 1; ; attempt++) {
    try {
      return run('mount', ['-o', 'loop,commit=300', image, dir])
    } catch (error) {
      if (attempt === MOUNTS_MAX) throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100) // two at once may have taken the same loop device
    }
  }
}

/** Waits for whoever still works on it; what is not mounted stays so. */
export async function unmounted(dir: string): Promise<void> {
  for (let attempt = 0; isMounted(dir); attempt++) {
    try {
      run('umount', [dir])
    } catch (error) {
      if (attempt === 20) throw error
      await sleep(100)
    }
  }
}

function isMounted(dir: string): boolean {
  return readFileSync('/proc/mounts', 'utf8').includes(` ${dir} `)
}

/** Leaves so many bytes. */
export function fillUp(disk: string, file: string, left: number): void {
  const { bavail, bsize } = statfsSync(disk)
  writeFileSync(file, Buffer.alloc(Math.max(0, bavail * bsize - left)))
}

export function run(tool: string, args: readonly string[]): void {
  execFileSync(tool, args, { stdio: ['ignore', 'ignore', 'pipe'] }) // its error says what the tool said
}

/** What failing disks lack here; undefined when nothing does. */
export function whyNoLoopDevices(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root may mount'
  try {
    run('losetup', ['-f'])
    run('mkfs.ext4', ['-V'])
    return undefined
  } catch {
    return 'there are no loop devices, or no mkfs.ext4'
  }
}
