/** Something a person must put right before we can start: the text is printed as it is, without a stack, then `exitCode`. */
export class SetupError extends Error {
  override readonly name = 'SetupError'
  readonly exitCode: number

  constructor(exitCode: number, message: string, options?: ErrorOptions) {
    super(message, options)
    this.exitCode = exitCode
  }
}
