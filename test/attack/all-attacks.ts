// All tables, in the order in which they are sent.
import { blockAttacks } from './block-attacks.ts'
import { fileAttacks } from './file-attacks.ts'
import { httpAttacks } from './http-attacks.ts'
import { longAttacks } from './long-attacks.ts'
import { natsAttacks } from './nats-attacks.ts'
import type { Attack } from './run-attack.ts'
import { slowAttacks } from './slow-attacks.ts'

export const allAttacks: readonly Attack[] = [
  ...httpAttacks,
  ...longAttacks,
  ...natsAttacks,
  ...blockAttacks,
  ...fileAttacks,
  ...slowAttacks,
]
