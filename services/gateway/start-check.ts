// What is wrong with the settings of a gateway that no single one of them shows: found before anything starts.
import type { GatewayConfig } from './config.ts'
import { assertMayListen, parseListen } from './http/listen.ts'

/** Throws RefusedError `err-carillon-listen`, `err-carillon-open-door`, `err-carillon-auth-file`. */
export async function checkGateway(config: GatewayConfig): Promise<void> {
  assertMayListen(parseListen(config.listen), config)
  if (config.authFile === '') return
  const { authFileText, readAuthFile } = await import('./auth/auth-file.ts')
  readAuthFile(authFileText(config.authFile))
}
