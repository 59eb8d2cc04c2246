// Prints the path of the nats-server that tests use, building it when there is none.
import { findNatsServer } from '../services/launcher/nats-binary.ts'

const say = (line) => process.stderr.write(`ci: ${line}\n`)
const { path } = await findNatsServer({ given: process.env['CARILLON_NATS_SERVER'], say })
process.stdout.write(`${path}\n`)
